// Express with a session whose cookie is for https alone, which it sets only where it knows that the visitor came so. Usage: express.cjs PORT
const express = require("express");
const session = require("express-session");

const app = express();
app.set("trust proxy", "loopback");
app.use(session({ secret: "of this check", resave: false, saveUninitialized: false, cookie: { secure: true, sameSite: "strict" } }));
app.use(express.urlencoded({ extended: false }));
const page = (words) => `<!doctype html><title>express</title><link rel="icon" href="data:,"><h1>${words}</h1>
<form method="post" action="/name"><input id="name" name="name"><button type="submit">say</button></form>`;
app.get("/", (request, response) => response.send(page(request.session.name ?? "nobody")));
app.post("/name", (request, response) => {
  request.session.name = request.body.name;
  response.redirect(303, `${request.protocol}://${request.get("host")}/`);
});
app.get("/who", (request, response) => response.json({ secure: request.secure, ip: request.ip, host: request.host, hostname: request.hostname }));
app.get("/events", async (request, response) => {
  response.type("text/event-stream");
  for (let n = 0; n < 5; n++) {
    response.write(`data: ${Date.now()}\n\n`);
    await new Promise((done) => setTimeout(done, 200));
  }
  response.end();
});
app.listen(Number(process.argv[2]), "127.0.0.1");
