// A page that means harm to the gate on the port given: it posts forms to it and opens WebSockets, from its own origin.
import { createServer } from "node:http";

const victim = `https://gate.home.arpa:${process.argv[2]}`;
const page = `<!doctype html><title>elsewhere</title>
<form id="f" method="post" action="${victim}/upload" enctype="text/plain"><input name="a" value="b"></form>
<script>
const opened = (path) => new Promise((done) => {
  const socket = new WebSocket("${victim}".replace(/^http/, "ws") + path);
  socket.onopen = () => done("open");
  socket.onerror = () => done("refused");
});
const read = (path) => fetch("${victim}" + path, { credentials: "include" }).then((r) => "read " + r.status, () => "not readable");
const send = (path) => fetch("${victim}" + path, { credentials: "include", method: "POST", mode: "no-cors", body: "x" }).then((r) => r.type, () => "failed");
</script>`;

const server = createServer((request, response) => {
  response.writeHead(200, { "content-type": "text/html" });
  response.end(page);
});
server.listen(0, "127.0.0.1", () => console.log(`port ${server.address().port}`));
