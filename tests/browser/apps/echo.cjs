// Socket.IO: says back what it hears, text and bytes. Usage: echo.cjs PORT
const { createServer } = require("node:http");
const { Server } = require("socket.io");

const page = `<!doctype html><title>echo</title><link rel="icon" href="data:,"><p id="transport"></p><p id="said"></p>
<script src="/socket.io/socket.io.js"></script>
<script>
  const socket = io();
  const show = () => (document.querySelector("#transport").textContent = socket.io.engine.transport.name);
  socket.on("connect", () => { show(); socket.io.engine.on("upgrade", show); });
  const echo = (what) => socket.timeout(5000).emitWithAck("echo", what);
</script>`;
const server = createServer((request, response) => response.setHeader("content-type", "text/html").end(page));
new Server(server).on("connection", (socket) => socket.on("echo", (what, answer) => answer(what)));
server.listen(Number(process.argv[2]), "127.0.0.1");
