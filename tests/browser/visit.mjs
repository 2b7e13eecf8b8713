// A visit with Chromium behind the gate, as it is for every application: what is looked at, and what a browser complains about. Prints `ok`
// or `FAIL` a line; the scripts that set the stage count them.
import { launch } from "./chromium.mjs";

export const { SITE, WORK } = process.env;
const { VISITOR, VISITOR_PASSWORD } = process.env;
const name = process.argv[2];
export const WAIT = 30_000;

export const check = async (what, test) => {
  try {
    const detail = await test();
    console.log(`ok    ${name}: ${what}${typeof detail === "string" ? ` (${detail})` : ""}`);
  } catch (error) {
    if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${name}.png` }).catch(() => {});
    console.log(`FAIL  ${name}: ${what}\n      ${String(error.message ?? error).split("\n").slice(0, 8).join("\n      ")}`);
  }
};
export const same = (got, wanted) => {
  if (got !== wanted) throw new Error(`wanted ${JSON.stringify(wanted)}, got ${JSON.stringify(got)}`);
};
export const holds = (fact, why) => {
  if (!fact) throw new Error(why);
};

const browser = await launch();
export const context = await browser.newContext();
context.setDefaultTimeout(WAIT);
export const page = await context.newPage();
export const complaints = [];
export const sockets = [];
const strangers = new Set();
page.on("console", (message) => {
  if (message.type() === "error" || /mixed content|content security|cookie|cross-origin|\bCORS\b/i.test(message.text())) complaints.push(`${message.text()} ${message.location().url}`);
});
page.on("pageerror", (error) => complaints.push(`exception: ${error.message}`));
page.on("websocket", (socket) => {
  const seen = { url: socket.url(), frames: 0 };
  socket.on("framereceived", () => (seen.frames += 1));
  sockets.push(seen);
});
page.on("request", (request) => {
  if (/^(https?|wss?):/.test(request.url()) && new URL(request.url()).host !== new URL(SITE).host) strangers.add(new URL(request.url()).origin);
});

export const enter = async (path = "/") => {
  await page.goto(SITE + path);
  same(new URL(page.url()).pathname, "/.loopgate/login");
  await page.fill("#user", VISITOR);
  await page.fill("#password", VISITOR_PASSWORD);
  await Promise.all([page.waitForNavigation(), page.click("button[type=submit]")]);
  holds(page.url().startsWith(SITE) && !page.url().includes("/.loopgate/"), page.url());
};
export const text = (selector, wanted, timeout = WAIT) =>
  page.waitForFunction(([selector, wanted]) => document.querySelector(selector)?.textContent.includes(wanted), [selector, wanted], { timeout });
// Runs what `applications` has for the name, then looks at what was complained about.
export const visit = async (applications) => {
  await applications[name.replace(/-.*/, "")]();
  const allowed = new RegExp(process.env.ALLOWED || "^$");
  await check("the browser complains about nothing", () => {
    const left = complaints.filter((one) => !allowed.test(one));
    same(left.slice(0, 5).join("\n"), "");
  });
  await check("everything comes from our name", () => same([...strangers].filter((one) => !allowed.test(one)).join(" "), ""));
  await browser.close();
};
