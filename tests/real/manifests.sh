#!/usr/bin/env bash
# The manifests of config/kubernetes against the schemas that Kubernetes publishes, of every version that the package has them for,
# without a field that is not known; and what a kustomization makes of them, by kubectl itself.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

venv=$ROOT/target/python-kubernetes tools=$ROOT/target/kubectl
if [ -z "${LIMITED:-}" ]; then
    packages python3:python3 dpkg-deb:dpkg
    python_packages "$venv" kubernetes-validate==1.37.0
    # Debian's package is unpacked, not installed: nothing of it is to run by itself.
    if [ ! -x "$tools/usr/bin/kubectl" ]; then
        unpacked "$tools" kubernetes-client || { echo "cannot get kubectl" >&2; exit 1; }
    fi
fi
limited 120 "$0" "$@"

# `valid VERSION FILE…`: prints what is wrong; nothing is left unchecked for want of a schema.
valid() { "$venv/bin/python" - "$@" <<'PY'
import sys
import kubernetes_validate, yaml
version, *files = sys.argv[1:]
wrong, checked = [], 0
for file in files:
    for document in yaml.safe_load_all(open(file)):
        try:
            kubernetes_validate.validate(document, version, strict=True)
            checked += 1
        except Exception as error:
            wrong.append(f"{file}: {type(error).__name__}: {getattr(error, 'message', error)}")
print("\n".join(wrong) if wrong else checked)
PY
}

place=$ROOT/config/kubernetes
mapfile -t files < <(find "$place" -name '*.yaml' ! -name kustomization.yaml | sort)
mapfile -t versions < <("$venv/bin/python" -c 'import os, re, kubernetes_validate as k
names = os.listdir(os.path.join(os.path.dirname(k.__file__), "kubernetes-json-schema"))
found = (re.fullmatch(r"v(1\.(\d+))\.\d+-local-strict", name) for name in names)
print("\n".join(m[1] for m in sorted(filter(None, found), key=lambda m: int(m[2]))))')
at_most "versions are not missing" "${#versions[@]}" 10
for version in "${versions[@]}"; do
    same "Kubernetes $version takes them" ${#files[@]} "$(valid "$version" "${files[@]}")"
done
newest=${versions[-1]}

# `refused NAME FILE FROM TO PATTERN`: a mistake that somebody could make is found.
refused() {
    sed "s#$3#$4#" "$place/$2" >"$WORK/$2"
    cmp -s "$WORK/$2" "$place/$2" && bad "$1: nothing was changed"
    has "$1 is found" "$5" "$(valid "$newest" "$WORK/$2")"
}
refused "a field that nobody knows" deployment.yaml readOnlyRootFilesystem readOnlyRootFileSystem 'readOnlyRootFileSystem'
refused "a number that is a text" service.yaml 'port: 443' 'port: https' "https"
refused "a version that was never there" networkpolicy.yaml 'networking.k8s.io/v1' 'networking.k8s.io/v9' 'v9'

kustomize() { "$tools/usr/bin/kubectl" kustomize "$1"; }
kustomize "$place" >"$WORK/plain.yaml" 2>"$WORK/plain.err"
same "kubectl renders the kustomization" "0 " "$? $(cat "$WORK/plain.err")"
same "and Kubernetes takes all of it" ${#files[@]} "$(valid "$newest" "$WORK/plain.yaml")"
# An overlay as its comment says. It names the files: the kustomize in Debian's kubectl takes a folder by a name that is no more.
mkdir "$WORK/over" && cp "${files[@]}" "$WORK/over"
cat >"$WORK/over/kustomization.yaml" <<'YAML'
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: house
namePrefix: my-
resources: [configmap.yaml, secret.yaml, deployment.yaml, service.yaml, networkpolicy.yaml]
images: [{ name: loopgate, newName: registry.example/loopgate, newTag: "0.1.0" }]
YAML
kustomize "$WORK/over" >"$WORK/over.yaml" 2>"$WORK/over.err"
same "an overlay renders" "0 " "$? $(cat "$WORK/over.err")"
same "and is taken" ${#files[@]} "$(valid "$newest" "$WORK/over.yaml")"
has "with its image" 'image: registry.example/loopgate:0.1.0' "$(cat "$WORK/over.yaml")"
names=$(grep -cE 'name: my-loopgate$|secretName: my-loopgate-users$' "$WORK/over.yaml")
same "and every name follows: the map, the secret, and where they are mounted" 3 "$names"
exit 0
