#!/usr/bin/env bash
# Real applications and their real clients behind the recipes of config/recipes, each recipe as it is written: Flask, WebDAV with rclone, git,
# a model server, gRPC, npm, S3. Every file of config/recipes passes `loopgate check`.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"
source "$ROOT/tests/support/apps.sh"
here=$ROOT/tests/real/apps
venv=$ROOT/target/apps
python=$venv/bin/python

if [ -z "${LIMITED:-}" ]; then
    if [ -z "${OWN_NETWORK:-}" ]; then
        packages curl:curl openssl:openssl python3:python3 node:nodejs npm:npm git:git rclone:rclone jq:jq
        python_packages "$venv" wsgidav==4.4.0 cheroot==11.1.2 'moto[s3]==5.2.5' flask==3.1.3 flask-cors==6.0.5 boto3 grpcio==1.85.3
        node_modules "$here"
        binary
        export GATE
    fi
    own_network "$@"
fi
limited 150 "$0" "$@"
cd "$WORK" || exit 1
names flask.home.arpa dav.home.arpa git.home.arpa llm.home.arpa rpc.home.arpa npm.home.arpa s3.home.arpa
authority

# ---- every recipe is a good file
for file in "$ROOT"/config/recipes/*.toml; do
    name=$(basename "$file" .toml)
    mkdir "check-$name"
    cp "$file" "check-$name/loopgate.toml"
    "$GATE" -q user add anna -c "check-$name/loopgate.toml" <<<"$PASSWORD"
    ! grep -q '^tokens_file' "$file" || "$GATE" -q token add --name robot -c "check-$name/loopgate.toml" >/dev/null 2>&1
    said=$("$GATE" check -c "check-$name/loopgate.toml" 2>&1)
    same "recipe $name passes check, without a warning" "0 check-$name/loopgate.toml: no mistakes" "$? $said"
    [ "$name" = vite ] || continue
    sed -i 's/^host_header/host_heder/' "check-$name/loopgate.toml"
    "$GATE" check -c "check-$name/loopgate.toml" >/dev/null 2>&1
    same "and a mistake in one would be seen" 3 $?
done

# ---- Flask
head -c 3000000 /dev/urandom >file.bin
start flask "$venv/bin/flask" --app "$here/flask_app.py" run --host 127.0.0.1 --port 5000
app=$PID
listens 5000
recipe flask
first=$PID
got=$(as_anna "$SITE/?q=%2F%zz&a=%e4+100%")
has "flask: it knows its address" "\"https://flask.home.arpa:$PORT/" "$got"
same "flask: path and query as they were sent" '/?q=%2F%zz&a=%e4+100%' "$(jq -r .raw <<<"$got")"
lacks "flask: nothing of the password" "authorization|$(printf 'anna:%s' "$PASSWORD" | base64)" "$got"
same "flask: who it is" anna "$(jq -r '.fields."x-loopgate-user"' <<<"$got")"
as_anna -c jar -H 'Accept: text/html' -o /dev/null "$SITE/"
same "flask: its login redirects to our name" "$SITE/hello" "$(as_anna -b jar -c jar -o /dev/null -w '%{redirect_url}' -d name=Anna "$SITE/login")"
same "flask: its session cookie works beside ours" "hello Anna" "$(curl -sS --cacert ca.pem -b jar "$SITE/hello")"
got=$(curl -sS --cacert ca.pem -b jar -H 'Authorization: Bearer its-own' "$SITE/")
same "flask: with the session, Authorization is its own" "Bearer its-own" "$(jq -r .fields.authorization <<<"$got")"
lacks "flask: our cookie is not for it" '__Host-loopgate' "$got"
has "flask: its own cookie is" '"cookie": ?"session=' "$got"
head -c 32768 /dev/zero | tr '\0' a | sed 's/^/X-Long: /' >long.txt
for version in --http1.1 --http2; do
    same "flask: fields of 32 KiB both ways, $version" "32768 32768" \
        "$(as_anna $version -H @long.txt -o long.out -w '%header{x-long}' "$SITE/long" | tr -d '\n' | wc -c) $(cat long.out)"
    same "flask: bytes of a field as they are, $version" "6772fcc3bc207e097c" "$(as_anna $version -D - -o /dev/null "$SITE/long" | sed -n 's/^x-raw: //Ip' | tr -d '\r\n' | od -An -tx1 | tr -d ' ')"
    same "flask: the last 10 bytes, $version" "$(tail -c 10 file.bin | sha256sum)" "$(as_anna $version -r -10 "$SITE/file" | sha256sum)"
    same "flask: a range beyond the end, $version" 416 "$(code $version -r 9999999- "$SITE/file")"
    head -c 1000000 file.bin >half.bin
    as_anna $version -C - -o half.bin "$SITE/file"
    same "flask: a download goes on where it ended, $version" "$(sha256sum <file.bin)" "$(sha256sum <half.bin)"
    same "flask: not modified, $version" 304 "$(code $version -H 'If-None-Match: "one"' "$SITE/file")"
    same "flask: an upload of 64 MiB, $version" "67108864 $(head -c 67108864 /dev/zero | sha256sum | cut -d' ' -f1)" \
        "$(head -c 67108864 /dev/zero | as_anna $version -H 'Content-Type: application/octet-stream' -T - "$SITE/file")"
done
# Two gates on one name: cookies know no ports.
gate second expose 5000 -l 127.0.0.1:0 --name flask.home.arpa
curl -sS --cacert ca.pem -b jar -c jar -H 'Accept: text/html' -u "me:$PASSWORD" -o /dev/null "https://flask.home.arpa:$PORT/"
same "two gates on one name: both cookies in one jar" 2 "$(grep -c '__Host-loopgate' jar)"
same "and both let in" "200 200" "$(for at in "$SITE" "https://flask.home.arpa:$PORT"; do curl -sS --cacert ca.pem -b jar -o /dev/null -w '%{http_code}\n' "$at/"; done | xargs)"
lacks "and neither is shown to the application" '__Host-' "$(curl -sS --cacert ca.pem -b jar "https://flask.home.arpa:$PORT/")"
PASSWORD=correct-horse-battery-9
stop "$first" "$PID" "$app"

# ---- WebDAV: rclone
mkdir dav
start dav "$venv/bin/wsgidav" --host 127.0.0.1 --port 8081 --root "$WORK/dav" --auth anonymous --no-config -q
app=$PID
listens 8081
recipe webdav
remote() { RCLONE_CONFIG="$WORK/rclone.conf" timeout 60 rclone --ca-cert "$WORK/ca.pem" --retries 1 --low-level-retries 1 "$@" 2>>"$WORK/rclone.err"; }
RCLONE_CONFIG=$WORK/rclone.conf rclone config create dav webdav url "$SITE" vendor other user anna pass "$(rclone obscure "$PASSWORD")" --no-obscure >/dev/null 2>&1
mkdir -p tree/sub && cp file.bin "tree/a file & ü.bin" && echo two >tree/sub/two
remote copy tree dav:tree && same "webdav: copied in, byte for byte" "" "$(diff -r tree dav/tree 2>&1)"
same "webdav: rclone finds no difference" 0 "$(remote check tree dav:tree --download; echo $?)"
remote moveto dav:tree/sub/two "dav:tree/zwei ö"
same "webdav: MOVE" "two gone" "$(cat 'dav/tree/zwei ö') $([ -e dav/tree/sub/two ] || echo gone)"
remote copyto "dav:tree/zwei ö" dav:tree/three
same "webdav: COPY" "two two" "$(cat dav/tree/three) $(cat 'dav/tree/zwei ö')"
has "webdav: by MOVE and COPY" 'MOVE.* 201' "$(cat webdav.gate.out)"
has "webdav: and COPY" 'COPY.* 20[14]' "$(cat webdav.gate.out)"
same "webdav: MOVE to a name that is not ours is refused by the application" 502 "$(code -X MOVE -H 'Destination: https://elsewhere.home.arpa/tree/stolen' "$SITE/tree/three")"
lock=$(as_anna -X LOCK -H 'Timeout: Second-60' -d '<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockinfo>' "$SITE/tree/three" | grep -oE 'opaquelocktoken:[^<]*' | head -n 1)
same "webdav: LOCK, what is locked stays, UNLOCK" "423 204 204" "$(code -X DELETE "$SITE/tree/three") $(code -X UNLOCK -H "Lock-Token: <$lock>" "$SITE/tree/three") $(code -X DELETE "$SITE/tree/three")"
remote purge dav:tree
same "webdav: purged" "" "$(ls dav)"
stop "$PID" "$app"

# ---- git
mkdir -p repos && git init -q --bare repos/one.git && git -C repos/one.git config http.receivepack true
start git python3 "$here/git_server.py" 8082 "$WORK/repos"
app=$PID
listens 8082
recipe git
export GIT_TERMINAL_PROMPT=0 GIT_SSL_CAINFO=$WORK/ca.pem GIT_CONFIG_GLOBAL=$WORK/gitconfig
git config --global user.name Anna && git config --global user.email anna@home.arpa
git config --global init.defaultBranch main
git init -q work && cp file.bin work/ && git -C work add . && git -C work commit -q -m one
address=https://anna:$PASSWORD@git.home.arpa:$PORT/one.git
same "git: push" 0 "$(git -C work push -q "$address" main >git.txt 2>&1; echo $?)"
git --git-dir=repos/one.git symbolic-ref HEAD refs/heads/main
same "git: clone" "0 $(sha256sum <file.bin)" "$(git clone -q "$address" again >>git.txt 2>&1; echo $?) $(sha256sum <again/file.bin)"
# More than http.postBuffer: git sends it in chunks.
head -c 4000000 /dev/urandom >work/more.bin && git -C work add . && git -C work commit -q -m two
same "git: a push in chunks" 0 "$(git -C work push -q "$address" main >>git.txt 2>&1; echo $?)"
same "git: pull" "$(sha256sum <work/more.bin)" "$(git -C again pull -q >>git.txt 2>&1; sha256sum <again/more.bin)"
before=$(sent 8082)
git clone -q "https://git.home.arpa:$PORT/one.git" none >nobody.txt 2>&1
same "git: without a password no clone, and nothing reached it" "1 $before" "$(grep -c 'could not read Username' nobody.txt) $(sent 8082)"
stop "$PID" "$app"

# ---- a model server: people, tokens, rights by path, events as they come
start llm python3 "$here/llm.py" 11434
app=$PID
listens 11434
recipe ollama
chat=$("$GATE" -q token add --name chat --path /api/chat -c ollama.d/loopgate.toml 2>/dev/null)
until_true 10 curl -sf --cacert ca.pem -H "Authorization: Bearer $chat" -d '{}' -o /dev/null "$SITE/api/chat" || bad "the new token is taken"
with() { curl -sS -m 20 --cacert ca.pem -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $1" -d '{}' "$SITE$2"; }
same "ollama: the token is for its path" 200 "$(with "$chat" /api/chat)"
same "ollama: and for no other" 403 "$(with "$chat" /api/generate)"
same "ollama: a token without a path asks" 200 "$(with "$TOKEN" /api/generate)"
same "ollama: but changes no model" 403 "$(with "$TOKEN" /api/pull)"
same "ollama: the keeper may" 200 "$(code -d '{}' "$SITE/api/pull")"
same "ollama: another user may not" "403 403 200" "$(for path in /api/pull /api/delete /api/chat; do curl -sS --cacert ca.pem -u "ben:$PASSWORD" -d '{}' -o /dev/null -w '%{http_code}\n' "$SITE$path"; done | xargs)"
before=$(sent 11434)
for spelling in /api/%70ull /api//pull /api/x/../pull /api/pull/; do
    lacks "ollama: nor as $spelling" '^200$' "$(curl -sS --path-as-is --cacert ca.pem -u "ben:$PASSWORD" -d '{}' -o /dev/null -w '%{http_code}' "$SITE$spelling")"
done
same "ollama: of these nothing reached it" "$before" "$(sent 11434)"
same "ollama: a page of ours may ask, by its Origin" 200 "$(code -H "Origin: $SITE" -d '{}' "$SITE/api/chat")"
read -r count slowest < <("$python" "$here/ask.py" stream "$SITE/api/chat" ca.pem "$chat" '{"prompt": "a b c d e f g h"}')
same "ollama: every line" 10 "$count"
# By what this machine takes without the gate, be it busy with something else.
read -r _ direct < <("$python" "$here/ask.py" stream http://127.0.0.1:11434/api/chat ca.pem "$chat" '{"prompt": "a b c d e f g h"}')
at_most "ollama: the slowest line, milliseconds, of which $direct without the gate" $((50 + 10 * direct)) "$slowest"
read -r count slowest < <("$python" "$here/ask.py" stream "$SITE/events" ca.pem "$TOKEN")
same "events: every one" 10 "$count"
read -r _ direct < <("$python" "$here/ask.py" stream http://127.0.0.1:11434/events ca.pem "$TOKEN")
at_most "events: the slowest, milliseconds, of which $direct without the gate" $((50 + 10 * direct)) "$slowest"
got=$(curl -sS --cacert ca.pem -H "Authorization: Bearer $TOKEN" "$SITE/")
lacks "ollama: the token is not shown to it" "$TOKEN" "$got"
got=$(curl -sS --cacert ca.pem -H "Loopgate-Token: $TOKEN" -H 'Authorization: Bearer its-own' "$SITE/")
same "ollama: a key of its own beside our token" "Bearer its-own null" "$(jq -r '"\(.authorization) \(."loopgate-token")"' <<<"$got")"
stop "$PID" "$app"

# ---- gRPC
start rpc "$python" "$ROOT/tests/real/rpc.py" serve 50051
app=$PID
listens 50051
recipe grpc
same "grpc: unary with trailers, both ways, and nobody" "hello service ABC UNAUTHENTICATED" "$("$python" "$here/ask.py" rpc "rpc.home.arpa:$PORT" ca.pem "$TOKEN" 2>&1 | xargs)"
stop "$PID" "$app"

# ---- npm
cat >verdaccio.yaml <<Y
storage: $WORK/storage
auth: { htpasswd: { file: $WORK/htpasswd } }
packages: { '**': { access: \$all, publish: \$all } }
log: { type: stdout, format: pretty, level: warn }
Y
start npm "$here/node_modules/.bin/verdaccio" -c verdaccio.yaml -l 127.0.0.1:4873
app=$PID
listens 4873
site npm npm.home.arpa 127.0.0.1:4873
mkdir -p package user
echo '{"name": "from-here", "version": "1.0.0", "main": "index.js"}' >package/package.json
echo 'module.exports = "installed"' >package/index.js
head -c 2000000 /dev/urandom >package/big.bin
echo '{"private": true}' >user/package.json
npmrc() { printf 'registry=%s/\n//npm.home.arpa:%s/:_authToken=%s\ncafile=%s/ca.pem\ncache=%s/npm-cache\nfetch-retries=0\nupdate-notifier=false\naudit=false\nfund=false\n' "$SITE" "$PORT" "$1" "$WORK" "$WORK" >npmrc; }
export npm_config_userconfig=$WORK/npmrc
unset npm_config_registry npm_config_cafile NPM_CONFIG_REGISTRY
npmrc wrong
before=$(sent 4873)
(cd package && npm publish >../npm.txt 2>&1)
same "npm: with a wrong token no publish, and nothing reached it" "1 $before" "$? $(sent 4873)"
npmrc "$TOKEN"
(cd package && npm publish >../npm.txt 2>&1)
same "npm: publish" 0 "$?"
(cd user && npm install from-here >>../npm.txt 2>&1)
same "npm: install" "installed $(sha256sum <package/big.bin)" "$(cd user && node -p 'require("from-here")') $(sha256sum <user/node_modules/from-here/big.bin)"
has "npm: the tarball came by our name" 'https://npm.home.arpa:8443/from-here/-/from-here-1.0.0.tgz' "$(cat user/package-lock.json 2>/dev/null)"
[ -z "$(ls user/node_modules 2>/dev/null)" ] && tail -n 5 npm.txt
stop "$PID" "$app"

# ---- S3: the signature is the application's, checked by it
start s3 env S3_IGNORE_SUBDOMAIN_BUCKETNAME=true INITIAL_NO_AUTH_ACTION_COUNT=3 "$venv/bin/moto_server" -H 127.0.0.1 -p 5555
app=$PID
listens 5555
key=$("$python" - <<'P'
import boto3, json
iam = boto3.client("iam", endpoint_url="http://127.0.0.1:5555", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
iam.create_user(UserName="anna")
key = iam.create_access_key(UserName="anna")["AccessKey"]
iam.put_user_policy(UserName="anna", PolicyName="all", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}))
print(json.dumps({name: key[name] for name in ("AccessKeyId", "SecretAccessKey")}))
P
)
site s3 s3.home.arpa 127.0.0.1:5555
url=$("$python" "$here/ask.py" s3 "$SITE" ca.pem "$TOKEN" "$key" 2>s3ask.err)
has "s3: boto3 signs, the service checks, our token beside it" '^https://s3\.home\.arpa:.*X-Amz-Signature' "$url$(tail -n 3 s3ask.err)"
wrong=$(jq -c '.SecretAccessKey = "no" + .SecretAccessKey' <<<"$key")
"$python" "$here/ask.py" s3 "$SITE" ca.pem "$TOKEN" "$wrong" >/dev/null 2>s3ask.err
logged "s3: a wrong signature is refused by the service" 'SignatureDoesNotMatch' s3ask.err
# moto checks signatures in fields alone, and fails on those in the address.
curl -sS -H 'Content-Type: text/plain' -d 1000 http://127.0.0.1:5555/moto-api/reset-auth >/dev/null
same "s3: the presigned address works with a token of ours" "what was put" "$(curl -sS --cacert ca.pem -H "Loopgate-Token: $TOKEN" "$url")"
curl -sS --cacert ca.pem -u "anna:$PASSWORD" -c s3jar -H 'Accept: text/html' -o /dev/null "$SITE/"
same "s3: and with a session" "what was put" "$(curl -sS --cacert ca.pem -b s3jar "$url")"
before=$(sent 5555)
same "s3: alone it opens nothing of ours" "401 $before" "$(curl -sS --cacert ca.pem -o /dev/null -w '%{http_code}' "$url") $(sent 5555)"
stop "$PID" "$app"
exit 0
