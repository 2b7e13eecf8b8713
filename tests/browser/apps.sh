#!/usr/bin/env bash
# Real applications in Chromium behind their recipes and behind `expose` and `run` without any setting: Vite, webpack-dev-server, Django,
# Socket.IO, a terminal. With LOOPGATE_ALL_APPS=1 the large ones too: Next, Jupyter, Streamlit, Gradio (some minutes to install).
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"
source "$ROOT/tests/support/apps.sh"
here=$ROOT/tests/browser
venv=$ROOT/target/browser-apps
large=$ROOT/target/large-apps
bin=$here/apps/node_modules/.bin

if [ -z "${LIMITED:-}" ]; then
    if [ -z "${OWN_NETWORK:-}" ]; then
        packages chromium:chromium certutil:libnss3-tools node:nodejs npm:npm openssl:openssl python3:python3 curl:curl
        node_modules "$here"
        node_modules "$here/apps"
        python_packages "$venv" django==5.2.19 terminado==0.18.1
        if [ -n "${LOOPGATE_ALL_APPS:-}" ]; then
            python_packages "$large" notebook==7.6.5 streamlit==1.67.0 gradio==6.31.0
            patiently npm install --prefix "$large" --ignore-scripts --no-audit --no-fund --loglevel=error next@16.4.6 react@19.3.1 react-dom@19.3.1 >/dev/null || exit 1
        fi
        binary
        export GATE
    fi
    own_network "$@"
fi
limited $([ -n "${LOOPGATE_ALL_APPS:-}" ] && echo 500 || echo 200) "$0" "$@"
cd "$WORK" || exit 1
names {vite,webpack,django,echo,sockets,terminal,next,jupyter,streamlit,gradio}.home.arpa
authority
browser_home

page='<!doctype html><title>page</title><link rel="icon" href="data:,"><h1 id="word"></h1>'
show='document.querySelector("#word").textContent = word;'

# ---- Vite, by its recipe and by `run` without any setting
mkdir vite
echo "$page<script type=module src=/main.js></script>" >vite/index.html
echo 'export const word = "first";' >vite/word.js
printf 'import { word } from "./word.js";\n%s\nimport.meta.hot.accept("./word.js", ({ word }) => { %s });\n' "$show" "$show" >vite/main.js
start vite "$bin/vite" vite --host 127.0.0.1 --port 5173 --strictPort
app=$PID
listens 5173
recipe vite
browse vite
stop "$PID" "$app"
sed -i 's/second/first/' vite/word.js
start run "$GATE" run --name vite.home.arpa --host-header auto -- "$bin/vite" vite --port 5199
gate_pid=$PID
fronted run vite.home.arpa
nobody vite-run
browse vite-run
stop "$gate_pid"
as_before

# ---- webpack-dev-server
mkdir -p webpack/public
printf 'import { word } from "./word.js";\nconst show = () => { %s };\nshow();\nimport.meta.webpackHot.accept("./word.js", show);\n' "$show" >webpack/main.js
echo 'export const word = "first";' >webpack/word.js
echo "$page<script src=/main.js></script>" >webpack/public/index.html
echo "module.exports = { mode: 'development', context: '$WORK/webpack', entry: './main.js', devServer: { static: '$WORK/webpack/public' } };" >webpack/config.cjs
start webpack "$bin/webpack" serve --config webpack/config.cjs --host 127.0.0.1 --port 8080 --client-web-socket-url auto://0.0.0.0:0/ws
app=$PID
listens 8080
until_true 60 grep -q 'compiled' webpack.out webpack.err
recipe webpack
browse webpack
stop "$PID" "$app"

# ---- Django: its admin
mkdir django && "$venv/bin/django-admin" startproject pages django && cd django || exit 1
"$venv/bin/python" manage.py migrate -v 0
DJANGO_SUPERUSER_PASSWORD=of-this-check "$venv/bin/python" manage.py createsuperuser --noinput --username admin --email admin@home.arpa -v 0
start django "$venv/bin/python" manage.py runserver --noreload 127.0.0.1:8000
app=$PID
cd "$WORK" || exit 1
listens 8000
recipe django
# It has no icon.
ALLOWED='/favicon.ico' browse django
stop "$PID" "$app"

# ---- Socket.IO and a terminal, with nothing but `expose`
start echo node "$here/apps/echo.cjs" 3001
app=$PID
listens 3001
exposed echo 3001
browse echo
stop "$PID" "$app"
gate absent.gate expose 3001 --name echo.home.arpa
SITE=https://echo.home.arpa:$PORT UPSTREAM=3001 VISITOR=me
export UPSTREAM
browse absent
stop "$PID"
as_before
start sockets node "$here/apps/sockets.cjs" 3003
app=$PID
listens 3003
# Limits that would end whatever is idle while the browser is silent.
site sockets sockets.home.arpa 127.0.0.1:3003 '[limits]
idle = "1s"
head = "2s"
body_idle = "1s"'
browse sockets
stop "$PID" "$app"
start terminal env LC_ALL=C.UTF-8 "$venv/bin/python" "$here/apps/terminal.py" 3002 "$here/apps/node_modules/@xterm/xterm"
app=$PID
listens 3002
exposed terminal 3002
browse terminal
stop "$PID" "$app"
as_before
[ -n "${LOOPGATE_ALL_APPS:-}" ] || exit 0

# ---- the large ones
# Beside what it imports: it follows no link out of its directory.
large=$(realpath "$large")
rm -rf "$large/page" && mkdir -p "$large/page/app" && ln -s "$large/page" next
echo '{"private": true}' >next/package.json
echo 'export default ({ children }) => <html lang="en"><body>{children}</body></html>;' >next/app/layout.js
printf '"use client";\nimport Word from "./word";\nexport default () => <Word />;\n' >next/app/page.js
printf '"use client";\nexport default function Word() { return <h1 id="word">first</h1>; }\n' >next/app/word.js
mkdir next/app/act
printf 'import { redirect } from "next/navigation";\nexport default async function Act({ searchParams }) {\n  const { said } = await searchParams;\n  async function say(form) { "use server"; redirect("/act?said=" + form.get("word")); }\n  return <form action={say}><h1 id="said">{said}</h1><input id="input" name="word" /><button type="submit">say</button></form>;\n}\n' >next/app/act/page.js
cd next && NEXT_TELEMETRY_DISABLED=1 start next "$large/node_modules/.bin/next" dev -H 127.0.0.1 -p 3000
app=$PID
cd "$WORK" || exit 1
listens 3000 60
recipe next
ALLOWED='favicon' browse next
stop "$PID"
sed -i 's/second/first/' next/app/word.js
# It takes every name, and refuses by `Origin` what its page asks for.
exposed next 3000 --host-header auto
has "Next: that is found out" 'Next shows its page at next.home.arpa[:0-9]*, and refuses' "$(cat next.gate.out next.gate.err)"
ALLOWED='favicon' browse next
stop "$PID" "$app"
sed -i 's/second/first/' next/app/word.js
# The same when we start it: it listens long before it can say anything.
cd next && NEXT_TELEMETRY_DISABLED=1 start next-run "$GATE" run --name next.home.arpa --host-header auto -- "$large/node_modules/.bin/next" dev -H '{host}' -p '{port}'
gate_pid=$PID
cd "$WORK" || exit 1
fronted next-run next.home.arpa
until_true 60 grep -q 'Next shows its page at next.home.arpa' next-run.err
has "Next by run: that is found out" 'Next shows its page at next.home.arpa[:0-9]*, and refuses' "$(cat next-run.err)"
ALLOWED='favicon' browse next-run
stop "$gate_pid"
as_before

mkdir books
echo '{"cells": [{"cell_type": "code", "id": "a", "execution_count": null, "metadata": {}, "outputs": [], "source": "print(6 * 7, \"from the kernel\")"}], "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}, "nbformat": 4, "nbformat_minor": 5}' >books/cell.ipynb
start jupyter "$large/bin/jupyter" notebook --allow-root --no-browser --ip 127.0.0.1 --port 8888 --IdentityProvider.token='' --ServerApp.root_dir="$WORK/books"
app=$PID
listens 8888 60
recipe jupyter
# An exception of its own, without a gate too.
ALLOWED="reading 'schema'" browse jupyter
stop "$PID" "$app"

start streamlit "$large/bin/streamlit" run "$here/apps/stream.py" --server.address 127.0.0.1 --server.port 8501 --server.headless true --browser.gatherUsageStats false
app=$PID
listens 8501 60
recipe streamlit
browse streamlit
stop "$PID" "$app"

start gradio "$large/bin/python" "$here/apps/gradio_page.py"
app=$PID
listens 7860 90
recipe gradio
browse gradio
stop "$PID" "$app"
exit 0
