"""What the manifests of config/kubernetes promise: `manifests.py DIRECTORY ROOT` checks them and lays out what a pod would see below
ROOT, the configuration as a kubelet mounts it. Their schemas are checked by manifests.sh."""
import os
import sys

import yaml

place, root = sys.argv[1:]
wrong = []


def want(what, is_so):
    if not is_so:
        wrong.append(what)


def read(name):
    with open(os.path.join(place, name), encoding="utf-8") as file:
        documents = list(yaml.safe_load_all(file))
    want(f"{name}: one document with kind and apiVersion", len(documents) == 1 and documents[0]["kind"] and documents[0]["apiVersion"])
    return documents[0]


listed = read("kustomization.yaml")["resources"]
there = {name for name in os.listdir(place) if name.endswith(".yaml")} - {"kustomization.yaml"}
want("kustomization.yaml lists every file", sorted(listed) == sorted(there))
kinds = {one["kind"]: one for one in map(read, listed)}
want("each kind once", len(kinds) == len(listed))
pod = kinds["Deployment"]["spec"]["template"]
labels, spec = pod["metadata"]["labels"], pod["spec"]
for kind, selector in [
    ("Deployment", kinds["Deployment"]["spec"]["selector"]["matchLabels"]),
    ("Service", kinds["Service"]["spec"]["selector"]),
    ("NetworkPolicy", kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]),
]:
    want(f"{kind} selects the pod", selector.items() <= labels.items() and selector)
containers = {one["name"]: one for one in spec["containers"]}
app, gate = containers["app"], containers["loopgate"]
want("the application binds loopback", "127.0.0.1" in app["command"])
want("only loopgate has a port", "ports" not in app and [p["containerPort"] for p in gate["ports"]] == [8443])
ports = kinds["Service"]["spec"]["ports"]
want("the service leads to it", [p["targetPort"] for p in ports] == [gate["ports"][0]["name"]])
want("visitors keep their addresses", kinds["Service"]["spec"]["externalTrafficPolicy"] == "Local")
rules = kinds["NetworkPolicy"]["spec"]
want("nobody reaches another port", rules["ingress"] == [{"ports": [{"protocol": "TCP", "port": 8443}]}])
want("both directions are ruled", sorted(rules["policyTypes"]) == ["Egress", "Ingress"])
user = spec["securityContext"]
want("no root", user["runAsNonRoot"] is True and user["runAsUser"] == 65532 and user["fsGroup"] == 65532)
want("system calls are filtered", user["seccompProfile"]["type"] == "RuntimeDefault")
want("no token of the cluster", spec["automountServiceAccountToken"] is False)
want("time to drain", spec["terminationGracePeriodSeconds"] > 30)
for name, one in containers.items():
    rights = one["securityContext"]
    want(f"{name}: nothing gained", rights["allowPrivilegeEscalation"] is False and rights["capabilities"] == {"drop": ["ALL"]})
    want(f"{name}: read-only root", rights["readOnlyRootFilesystem"] is True)
    want(f"{name}: bounded memory", one["resources"]["limits"]["memory"])
for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
    want(f"{probe} asks by health", gate[probe]["exec"]["command"][:2] == ["/loopgate", "health"])
volumes = {one["name"]: one for one in spec["volumes"]}
mounts = {one["name"]: one["mountPath"] for one in gate["volumeMounts"]}
want("every mount has its volume", mounts.keys() == volumes.keys())
want("no subPath, which is never updated", not any("subPath" in one for one in gate["volumeMounts"]))
want("the map is mounted", volumes["config"]["configMap"]["name"] == kinds["ConfigMap"]["metadata"]["name"])
want("the secret is mounted", volumes["users"]["secret"]["secretName"] == kinds["Secret"]["metadata"]["name"])
for name in ("users", "tls"):
    want(f"{name} is not for everybody", volumes[name]["secret"]["defaultMode"] == 0o440)
if wrong:
    sys.exit("\n".join(wrong))

# As a kubelet does: ..data is a link to a directory with a date, and each file a link through it.
for name, files, mode in [
    ("config", kinds["ConfigMap"]["data"], 0o644),
    ("users", kinds["Secret"]["stringData"], 0o440),
    ("tls", {}, 0o440),
    ("state", {}, 0o440),
]:
    directory = root + mounts[name]
    os.makedirs(os.path.join(directory, "..one"))
    os.symlink("..one", os.path.join(directory, "..data"))
    for file, text in files.items():
        path = os.path.join(directory, "..one", file)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(path, mode)
        os.chown(path, 0, 65532)
        os.symlink(f"..data/{file}", os.path.join(directory, file))
print(" ".join(gate["args"]))
