// WebSockets as they are: a word of the subprotocol, close codes, a refusal, silence. Usage: sockets.cjs PORT
const { createServer } = require("node:http");
const { WebSocketServer } = require("ws");

const page = '<!doctype html><title>sockets</title><link rel="icon" href="data:,"><h1>sockets</h1>';
const ended = [];
const server = createServer((request, response) => {
  if (request.url === "/ended") return response.setHeader("content-type", "application/json").end(JSON.stringify(ended));
  response.setHeader("content-type", "text/html").end(page);
});
const sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => (offered.has("two") ? "two" : false) });
sockets.on("connection", (socket) => {
  socket.on("message", (words, binary) => {
    if (String(words) === "close") return socket.close(4001, "grüße");
    if (String(words) === "cut") return socket.terminate();
    socket.send(words, { binary });
  });
  socket.on("close", (code, reason) => ended.push(`${code} ${reason}`));
});
server.on("upgrade", (request, socket, head) => {
  if (request.url === "/refused") return socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
  sockets.handleUpgrade(request, socket, head, (one) => sockets.emit("connection", one, request));
});
server.listen(Number(process.argv[2]), "127.0.0.1");
