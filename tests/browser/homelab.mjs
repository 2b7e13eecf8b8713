// One application of homelab.sh in Chromium: `homelab.mjs NAME`.
import { SITE, check, complaints, context, enter, holds, page, same, text, visit } from "./visit.mjs";

const json = (path) => page.evaluate((path) => fetch(path).then((answer) => answer.json()), path);
// What a click that leaves the page leads to.
const leads = (act) => Promise.all([page.waitForNavigation(), act()]);

const applications = {
  async express() {
    await check("login leads to its page", () => enter());
    await check("its session cookie, which is for https alone", async () => {
      await page.fill("#name", "Anna");
      await leads(() => page.click("button"));
      same(page.url(), `${SITE}/`);
      await text("h1", "Anna");
      const cookies = await context.cookies(SITE);
      same(cookies.filter((one) => one.name === "connect.sid").map((one) => `${one.secure} ${one.sameSite}`).join(), "true Strict");
    });
    await check("it knows its name and who comes", async () => {
      const { secure, host } = await json("/who");
      same(`${secure} ${host}`, `true ${SITE.slice("https://".length)}`);
    });
    await check("events come one by one", async () => {
      const latest = () =>
        page.evaluate(
          () =>
            new Promise((done) => {
              const delays = [];
              const events = new EventSource("/events");
              events.onmessage = ({ data }) => {
                delays.push(Date.now() - Number(data));
                if (delays.length === 5) done(Math.max(...delays)), events.close();
              };
            }),
        );
      // Once in five a machine that has other work is in time; events that are held back never are.
      let late = Infinity;
      for (let n = 0; n < 5 && late >= 150; n += 1) late = Math.min(late, await latest());
      holds(late < 150, `${late} ms`);
      return `${late} ms`;
    });
  },
  async fastapi() {
    await check("login leads to its documentation", () => enter("/docs"));
    await check("a call from its documentation", async () => {
      await page.locator("#operations-default-double_double_post .opblock-summary-control").click();
      await page.locator(".try-out__btn").click();
      await page.locator("tr[data-param-name=number] input").fill("21");
      await page.locator(".execute").click();
      await page.waitForFunction(() => /"twice":\s*42/.test(document.querySelector(".live-responses-table")?.textContent));
    });
    await check("its redirect stays at our name", async () => {
      const got = await page.evaluate(() => fetch("/items").then(async (answer) => `${answer.url} ${(await answer.json()).url}`));
      same(got, `${SITE}/items/ ${SITE}/items/`);
    });
    await check("its WebSocket", async () => {
      const got = await page.evaluate(
        () =>
          new Promise((done) => {
            const socket = new WebSocket(`wss://${location.host}/ws`);
            socket.onopen = () => socket.send("grüße");
            socket.onmessage = ({ data }) => done(data);
            socket.onerror = () => done("refused");
          }),
      );
      same(got, "GRÜSSE");
    });
  },
  async php() {
    await check("login leads to its page", () => enter());
    await check("its session, its name, an upload", async () => {
      await text("h1", "visit 1");
      await text("#host", new URL(SITE).host);
      await page.setInputFiles("input[type=file]", { name: "file.bin", mimeType: "application/octet-stream", buffer: Buffer.alloc(1_500_000, 7) });
      await leads(() => page.click("button"));
      await text("#size", "1500000");
      await text("h1", "visit 3");
    });
  },
  async webrick() {
    await check("login leads to its list", () => enter());
    await check("its redirect, from the Host that it was given", async () => {
      await page.goto(`${SITE}/folder`);
      same(page.url(), `${SITE}/folder/`);
      await text("h1", "in the folder");
    });
  },
  async radicale() {
    await check("login leads to its page", () => enter());
    await check("its own login, and a calendar", async () => {
      await page.locator("#loginscene [data-name=user]").fill("anna");
      await page.locator("#loginscene button[type=submit]").click();
      await page.locator("#collectionsscene [data-name=new]").click();
      await page.locator("#createcollectionscene [data-name=displayname]").fill("Termine");
      await page.locator("#createcollectionscene button[type=submit]").click();
      await page.getByText("Termine").first().waitFor();
    });
  },
  async qbittorrent() {
    await check("login leads to its own", () => enter());
    await check("its login, and its list that keeps asking", async () => {
      await page.fill("#username", "admin");
      await page.fill("#password", "adminadmin");
      await page.click("#login");
      await page.locator("#torrentsTableDiv").waitFor();
      const asked = await page.waitForResponse((answer) => answer.url().includes("/api/v2/sync/maindata") && answer.url().includes("rid=") && answer.status() === 200);
      holds(asked.ok(), "no answer");
    });
  },
  async flask() {
    await check("login leads to the debugger", async () => {
      await enter().catch(() => {});
      await page.goto(SITE);
      await text("h1", "ZeroDivisionError");
    });
    await check("a console in its frame", async () => {
      await page.locator(".traceback .frame img").last().evaluate((icon) => icon.click());
      await page.fill("input[name=pin]", process.env.PIN);
      await page.locator("input[name=btn]").click();
      const line = page.locator(".console input[type=text], form.command input, .interactive input[type=text]").last();
      await line.waitFor();
      await line.fill("six * 7");
      await line.press("Enter");
      await page.waitForFunction(() => [...document.querySelectorAll(".console, .interactive")].some((one) => one.textContent.includes("42")));
    });
  },
  async syncthing() {
    await check("login leads to its page", () => enter());
    await check("it knows itself", () => page.getByText("This Device").first().waitFor());
    await check("a setting is kept, with its token against forgery", async () => {
      const got = await page.evaluate(async () => {
        const [, name, token] = document.cookie.match(/(CSRF-Token-\w+)=(\w+)/);
        const config = await fetch("/rest/config/options", { headers: { [`X-${name}`]: token } }).then((answer) => answer.json());
        const kept = await fetch("/rest/config/options", { method: "PUT", headers: { [`X-${name}`]: token }, body: JSON.stringify({ ...config, maxSendKbps: 321 }) });
        const without = await fetch("/rest/config/options", { method: "PUT", body: JSON.stringify(config) });
        return `${kept.status} ${without.status}`;
      });
      same(got, "200 403");
      complaints.splice(0, complaints.length, ...complaints.filter((one) => !one.includes("403")));
    });
  },
  async transmission() {
    await check("login leads to its page", () => enter("/transmission/web/"));
    await check("it asks with the session id that it was told", async () => {
      await page.waitForResponse((answer) => answer.url().endsWith("/transmission/rpc") && answer.status() === 200);
      complaints.splice(0, complaints.length, ...complaints.filter((one) => !one.includes("409")));
    });
  },
};

await visit(applications);
