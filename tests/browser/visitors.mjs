// The pages for those who have no account yet, in Chromium: the button of a link, and how a device comes to trust the authority.
// Prints `ok` or `FAIL` a line; run.sh sets the stage and counts.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { launch } from "./chromium.mjs";

const { LINKS, ONBOARD, FINGERPRINT, SHOTS } = process.env;
const [plain, quiet, revoked] = LINKS.split("\n");
const site = new URL(plain).origin;
let failures = 0;
const check = async (name, test) => {
  try {
    await test();
    console.log(`ok    ${name}`);
  } catch (error) {
    failures += 1;
    console.log(`FAIL  ${name}\n      ${String(error.message ?? error).split("\n").slice(0, 6).join("\n      ")}`);
  }
};
const same = (got, wanted) => {
  if (got !== wanted) throw new Error(`wanted ${JSON.stringify(wanted)}, got ${JSON.stringify(got)}`);
};

const browser = await launch(["gate.home.arpa"]);
const visitor = async (options = {}) => {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(30_000);
  const page = await context.newPage();
  const seen = { foreign: [], errors: [] };
  page.on("request", (request) => request.url().startsWith(site) || seen.foreign.push(request.url()));
  page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  return { context, page, seen };
};
const press = async (page) => {
  const [response] = await Promise.all([page.waitForNavigation(), page.click("button[type=submit]")]);
  return response;
};

const first = await visitor();
await check("a link shows a button and gives nothing yet", async () => {
  same((await first.page.goto(plain)).status(), 200);
  same(await first.page.locator("button").count(), 1);
  same((await first.context.cookies()).length, 0);
  await first.page.screenshot({ path: `${SHOTS}/share.png` });
});
await check("its button opens the path that it is for", async () => {
  const response = await press(first.page);
  same(response.status(), 200);
  same(new URL(first.page.url()).pathname, "/in");
  const cookies = await first.context.cookies();
  same(cookies.filter((cookie) => cookie.name.startsWith("__Host-") && cookie.httpOnly && cookie.secure).length, 1);
});
await check("the page behind it never learned the link", async () => same(await first.page.evaluate(() => document.referrer), ""));
await check("what is not for the visitor is closed", async () => same((await first.page.goto(`${site}/elsewhere`)).status(), 403));
await check("whoever opens it again is where he was", async () => {
  await first.page.goto(plain);
  same(new URL(first.page.url()).pathname.startsWith("/.loopgate/share/"), false);
});
await check("a second browser gets nothing by it", async () => {
  const second = await visitor();
  await second.page.goto(plain);
  same((await press(second.page)).status(), 401);
  same(await second.page.innerText("h1"), "This link opens nothing");
  same((await second.context.cookies()).filter((cookie) => cookie.name.startsWith("__Host-")).length, 0);
  await second.page.screenshot({ path: `${SHOTS}/share-spent.png` });
  await second.context.close();
});
await check("it works without scripts, and loads nothing from elsewhere", async () => {
  const { context, page, seen } = await visitor({ javaScriptEnabled: false });
  await page.goto(quiet);
  same((await press(page)).status(), 200);
  same(seen.foreign.join(), "");
  await context.close();
});
await check("the button on a page of somebody else opens nothing", async () => {
  const { context, page } = await visitor();
  await page.goto("data:text/html,<form method=post action='" + encodeURI(revoked) + "'><button type=submit>Win</button></form>");
  same((await press(page)).status(), 403);
  await context.close();
});

await check("the page for a new device says what to compare, and loads nothing from elsewhere", async () => {
  const { context, page, seen } = await visitor();
  same((await page.goto(ONBOARD)).status(), 200);
  same((await page.innerText("body")).includes(FINGERPRINT), true);
  same(await page.locator("svg[role=img] path").count(), 1);
  same(seen.foreign.join(), "");
  same(seen.errors.join(), "");
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByText("Certificate (.crt)").click()]);
  same(download.suggestedFilename(), "loopgate-ca.crt");
  const der = await readFile(await download.path());
  same(createHash("sha256").update(der).digest("hex").toUpperCase(), FINGERPRINT.replaceAll(":", ""));
  const [profile] = await Promise.all([page.waitForEvent("download"), page.getByText("Profile for").click()]);
  same(profile.suggestedFilename(), "loopgate-ca.mobileconfig");
  await context.close();
});
await check("on a phone it needs no sideways scrolling", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const { context, page } = await visitor({ viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, colorScheme });
    await page.goto(ONBOARD);
    await page.screenshot({ path: `${SHOTS}/onboard-phone-${colorScheme}.png`, fullPage: true });
    const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
    same(wide <= room, true);
    await context.close();
  }
});
await browser.close();

await check("a browser that trusts nothing yet warns, and gets to the page all the same", async () => {
  const stranger = await launch(["gate.home.arpa"], {
    env: { ...process.env, HOME: process.env.STRANGER, XDG_DATA_HOME: `${process.env.STRANGER}/share`, XDG_CONFIG_HOME: `${process.env.STRANGER}/config` },
  });
  const page = await stranger.newPage();
  const refused = await page.goto(ONBOARD).then(() => "trusted", (error) => String(error.message).match(/ERR_\w+/)?.[0]);
  same(refused, "ERR_CERT_AUTHORITY_INVALID");
  // What a person does with “Advanced, proceed”.
  await page.waitForSelector("#details-button", { state: "attached" });
  await Promise.all([page.waitForNavigation(), page.evaluate(() => { document.querySelector("#details-button").click(); document.querySelector("#proceed-link").click(); })]);
  same((await page.title()).includes("Trust this gate"), true);
  await stranger.close();
});
process.exitCode = failures > 0 ? 1 : 0;
