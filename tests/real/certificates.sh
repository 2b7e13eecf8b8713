#!/usr/bin/env bash
# Client certificates with the built program, and what others make of them: OpenSSL, NSS, curl.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl jq:jq openssl:openssl python3:python3 pk12util:libnss3-tools
    binary
    export GATE
fi
limited 150 "$0" "$@"

mkdir "$WORK/www" && echo hello >"$WORK/www/index.html"
UPSTREAM=$(free_port)
start service python3 -m http.server --bind 127.0.0.1 --directory "$WORK/www" "$UPSTREAM"
until_true 20 bash -c "</dev/tcp/127.0.0.1/$UPSTREAM"
cat >"$WORK/gate.toml" <<TOML
[[listener]]
address = "127.0.0.1:0"
networks = { allow = ["loopback"] }
client_certificates = { from = "local-ca" }
[auth]
users_file = "users"
[log]
access = "access.log"
format = "json"
[[route]]
upstream = "127.0.0.1:$UPSTREAM"
access = { certificate = "required" }
[[route]]
path = "/either"
upstream = "127.0.0.1:$UPSTREAM"
access = { certificate = "accepted" }
[[route]]
path = "/open"
upstream = "127.0.0.1:$UPSTREAM"
access = "anyone"
TOML
for user in alice bob; do echo "open sesame $user" | "$GATE" -q user add "$user" --users-file "$WORK/users"; done

echo "== the file"
cd "$WORK" || exit 1
password=$("$GATE" cert client alice --for 30d 2>alice.err)
same "a certificate is made" 0 $?
has "the password is alone on standard output" '^[a-z]{4}(-[a-z]{4}){3}$' "$password"
logged "and the rest is said beside it" 'alice\.p12' alice.err
same "the file is the owner's alone" 600 "$(stat -c %a alice.p12)"
out=$("$GATE" cert client alice 2>&1)
same "a file that is there stays" 1 $?
has "and the way out is said" 'choose another one with `--out`' "$out"
same "nothing was listed for it" 1 "$("$GATE" cert list --json | jq length)"
"$GATE" -q cert client alice --legacy --out legacy.p12 >legacy.password
"$GATE" -q cert client bob -o bob.p12 >bob.password
"$GATE" -q cert client mallory -o mallory.p12 >mallory.password
same "the authority and the list are the owner's alone" "600 600" "$(stat -c %a "$STATE_DIRECTORY/ca/clients.pem" "$STATE_DIRECTORY/ca/clients.toml" | xargs)"

for file in alice:"$password":AES-256-CBC legacy:"$(cat legacy.password)":3-KeyTripleDES; do
    IFS=: read -r name secret cipher <<<"$file"
    out=$(openssl pkcs12 -in $name.p12 -passin "pass:$secret" -info -noout 2>&1)
    has "OpenSSL reads $name.p12" "Shrouded Keybag: .*$cipher" "$out"
    out=$(openssl pkcs12 -in $name.p12 -passin "pass:wrong" -noout 2>&1)
    has "but not with another password" 'invalid password' "$out"
    mkdir -p "nss-$name" && certutil -N -d "sql:nss-$name" --empty-password
    out=$(pk12util -i $name.p12 -d "sql:nss-$name" -W "$secret" 2>&1)
    has "NSS, which is what Chromium and Firefox use, imports $name.p12" 'IMPORT SUCCESSFUL' "$out"
    has "with its key" 'loopgate alice' "$(certutil -K -d "sql:nss-$name")"
done
openssl pkcs12 -in alice.p12 -passin "pass:$password" -clcerts -nokeys -out alice.pem 2>/dev/null
openssl pkcs12 -in alice.p12 -passin "pass:$password" -cacerts -nokeys -out clients.pem 2>/dev/null
openssl pkcs12 -in alice.p12 -passin "pass:$password" -nocerts -noenc -out alice.key 2>/dev/null
has "OpenSSL believes it as a client" ': OK' "$(openssl verify -x509_strict -purpose sslclient -CAfile clients.pem alice.pem 2>&1)"
lacks "and not as a server" ': OK' "$(openssl verify -purpose sslserver -CAfile clients.pem alice.pem 2>&1)"

echo "== the gate"
"$GATE" check -c gate.toml >check.out 2>&1
same "check has nothing to say" 0 $?
serving gate gate.toml
"$GATE" -q ca export -o ca.pem
url=https://127.0.0.1:$PORT
# `ask ARGUMENTS…`: the status.
ask() { curl -sS --cacert ca.pem -m 20 -o answer -w '%{http_code}' "$@" 2>>curl.err; }
with() { local name=$1 secret=$2; shift 2; ask --cert-type P12 --cert "$name.p12:$secret" "$@"; }
same "without a certificate" 403 "$(ask "$url/")"
has "the reader is told" 'asks for a client certificate' "$(cat answer)"
same "where none is asked for" 404 "$(ask "$url/open")"
same "with it" 200 "$(with alice "$password" "$url/")"
same "over HTTP/1.1" 200 "$(with alice "$password" --http1.1 "$url/")"
same "over TLS 1.2" 200 "$(with alice "$password" --tls-max 1.2 "$url/")"
same "the old form too" 200 "$(with legacy "$(cat legacy.password)" "$url/")"
same "in place of a password" 404 "$(with alice "$password" "$url/either")"
same "a password does as well there" 404 "$(ask -u "bob:open sesame bob" "$url/either")"
same "and without both" 401 "$(ask "$url/either")"
same "somebody who is not in the users file" 403 "$(with mallory "$(cat mallory.password)" "$url/")"
logged "which the log says" 'auth_failed.*"method":"certificate".*users file' gate.err
same "another one's certificate beside a login" 403 "$(with alice "$password" -u "bob:open sesame bob" "$url/")"
logged "the log names the user and the way" '"user":"alice","auth":"certificate"' access.log

echo "== not for servers, and the other way round"
authority
leaf server "DNS:app.lan,IP:127.0.0.1"
same "a certificate of the authority for servers is nobody" 403 "$(ask --cert server.pem --key server.key "$url/")"
logged "for that reason" 'the client certificate is not for clients|authority that is not believed' access.log
# A stolen key of the authority makes certificates, but none that is listed.
openssl pkey -in "$STATE_DIRECTORY/ca/clients.pem" -out stolen.key
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout forged.key -subj "/CN=alice" -out forged.csr 2>/dev/null
openssl x509 -req -in forged.csr -CA clients.pem -CAkey stolen.key -days 3 -set_serial 77 -out forged.pem \
    -extfile <(printf 'extendedKeyUsage=clientAuth\n') 2>/dev/null
same "a certificate that is not listed is nobody" 403 "$(ask --cert forged.pem --key forged.key "$url/")"
logged "for that reason" 'not in the list' access.log

echo "== explain"
out=$("$GATE" explain -c gate.toml --from 127.0.0.1 --certificate alice "$url/")
has "the steps name the certificate" 'certificate +the client certificate is alice' "$out"
has "and it passes" 'allowed' "$out"
out=$("$GATE" explain -c gate.toml --from 127.0.0.1 --user alice "$url/")
has "without one it does not" 'certificate-missing: the client sees 403' "$out"

echo "== revoked"
# `session FILE`: a request in a session that is stored in FILE, resumed when there is one.
session() {
    local resume=()
    [ -e "$1" ] && resume=(-sess_in "$1")
    printf 'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' |
        timeout 10 openssl s_client -connect "127.0.0.1:$PORT" -CAfile ca.pem -cert alice.pem -key alice.key \
            -ign_eof -sess_out "$1" "${resume[@]}" "${@:2}" 2>&1 | tr -d '\r'
}
for version in -tls1_2 -tls1_3; do
    has "$version: a session" 'HTTP/1.1 200' "$(session "alice$version" $version)"
    out=$(session "alice$version" $version)
    has "$version: is resumed" '^Reused' "$out"
    has "$version: with its certificate" 'HTTP/1.1 200' "$out"
done
serial=$("$GATE" cert list --json | jq -r '.[] | select(.name == "alice") | .serial' | head -1)
out=$("$GATE" cert revoke "$serial" 2>&1)
same "revoke" 0 $?
has "is in force when it returns" 'in force at' "$out"
same "no new connection" 403 "$(with alice "$password" "$url/")"
for version in -tls1_2 -tls1_3; do
    out=$(session "alice$version" $version)
    has "$version: a resumed session" '^Reused' "$out"
    has "$version: is no better" 'HTTP/1.1 403' "$out"
done
same "the other device of the same user goes on" 200 "$(with legacy "$(cat legacy.password)" "$url/")"
"$GATE" -q cert revoke alice
same "until all of the user's are revoked" 403 "$(with legacy "$(cat legacy.password)" "$url/")"
same "others go on" 200 "$(with bob "$(cat bob.password)" "$url/")"
has "the list says so" '^alice +revoked' "$("$GATE" --no-color cert list)"
out=$("$GATE" cert revoke carol 2>&1)
same "what is not there cannot be revoked" 1 $?
# What is wrong with the rest of the configuration does not keep anybody in.
echo "nonsense = 1" >>gate.toml
out=$("$GATE" cert revoke bob 2>&1)
same "a gate that refuses its file revokes all the same" 0 $?
has "and says what it does not take" 'in force at .*; nothing else' "$out"
same "he is out" 403 "$(with bob "$(cat bob.password)" "$url/")"
# A gate that does not obey must not look like one that does.
echo "nobody's line" >>users
out=$("$GATE" cert client alice --out late.p12 2>&1)
same "a gate that does not take what beside it is broken is said to be behind" 1 $?
has "with what to do" 'still counts until the gate reads it' "$out"
exit 0
