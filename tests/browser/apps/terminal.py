"""A shell in the browser: terminado and xterm.js. Usage: terminal.py PORT DIRECTORY_OF_XTERM"""
import asyncio
import sys

import terminado
import tornado.web

PAGE = """<!doctype html><title>terminal</title><link rel="icon" href="data:,"><link rel="stylesheet" href="/xterm/css/xterm.css">
<div id="screen"></div><script src="/xterm/lib/xterm.js"></script>
<script>
  const terminal = new Terminal({ cols: 80, rows: 24 });
  terminal.open(document.querySelector("#screen"));
  const socket = new WebSocket(`wss://${location.host}/socket`);
  socket.onmessage = ({ data }) => { const [kind, text] = JSON.parse(data); if (kind === "stdout") terminal.write(text); };
  socket.onopen = () => socket.send(JSON.stringify(["set_size", 24, 80, 0, 0]));
  socket.onclose = ({ code }) => document.title = `closed ${code}`;
  terminal.onData((text) => socket.send(JSON.stringify(["stdin", text])));
  const screen = () => Array.from({ length: terminal.buffer.active.length }, (_, n) => terminal.buffer.active.getLine(n).translateToString(true)).join("\\n");
</script>"""


class Page(tornado.web.RequestHandler):
    def get(self):
        self.write(PAGE)


async def main():
    shells = terminado.UniqueTermManager(shell_command=["env", "--default-signal=INT,QUIT", "bash", "--norc"])
    tornado.web.Application([
        ("/", Page),
        ("/socket", terminado.TermSocket, {"term_manager": shells}),
        ("/xterm/(.*)", tornado.web.StaticFileHandler, {"path": sys.argv[2]}),
    ]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main())
