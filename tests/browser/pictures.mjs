// Pictures of every page of ours on a phone and on a desk, light and dark, into $SHOTS; and what a picture does not show to a
// program is measured: contrast, size of what is touched, labels, focus, what a screen reader is told. Prints `ok` or `FAIL` a
// line; run.sh sets the stage and counts.
import { launch } from "./chromium.mjs";

const { PAGES_PORT, SHOTS } = process.env;
const site = `https://gate.home.arpa:${PAGES_PORT}`;
const browser = await launch(["gate.home.arpa"]);

let failures = 0;
const tell = (name, faults) => {
  if (faults.length) failures += 1;
  console.log(faults.length ? `FAIL  ${name}\n      ${faults.join("\n      ")}` : `ok    ${name}`);
};

// Runs in the page.
const measure = () => {
  const faults = [];
  const numbers = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const name = (e) => `${e.tagName.toLowerCase()}${e.id ? `#${e.id}` : ""} "${e.textContent.trim().slice(0, 30)}"`;
  for (const element of document.body.querySelectorAll("*")) {
    const hasText = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if ((hasText || element.tagName === "INPUT") && element.type !== "hidden" && element.getClientRects().length) {
      const got = ratio(numbers(getComputedStyle(element).color), ground(element));
      if (got < 4.5) faults.push(`contrast ${got.toFixed(2)} of ${name(element)}`);
    }
  }
  for (const element of document.querySelectorAll("button, a.button, input:not([type=hidden])")) {
    const { width, height } = element.getBoundingClientRect();
    if (width < 44 || height < 44) faults.push(`${name(element)} is ${width} x ${height}`);
    if (element.tagName === "INPUT") {
      const edge = ratio(numbers(getComputedStyle(element).borderTopColor), ground(element.parentElement));
      if (edge < 3) faults.push(`the edge of ${name(element)} has contrast ${edge.toFixed(2)}`);
      if (!element.labels.length) faults.push(`${name(element)} has no label`);
      if (!element.autocomplete) faults.push(`${name(element)} has no autocomplete`);
      if (parseFloat(getComputedStyle(element).fontSize) < 16) faults.push(`${name(element)} makes an iPhone zoom`);
    }
  }
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) faults.push(`it is ${root.scrollWidth} wide in ${root.clientWidth}`);
  if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
  if (!document.querySelector("main") || !root.lang || !document.title) faults.push("no main, language or title");
  return faults;
};

for (const colorScheme of ["light", "dark"]) {
  for (const [form, width, height] of [["phone", 390, 844], ["desk", 1280, 800]]) {
    const context = await browser.newContext({ colorScheme, viewport: { width, height }, hasTouch: form === "phone", isMobile: form === "phone" });
    context.setDefaultTimeout(30_000);
    const page = await context.newPage();
    const look = async (name, more = []) => {
      const full = `${name}-${form}-${colorScheme}`;
      await page.screenshot({ path: `${SHOTS}/${full}.png` });
      tell(full, [...(await page.evaluate(measure)), ...more]);
    };
    const enter = async (password) => {
      await page.fill("#user", "me");
      await page.fill("#password", password);
      await Promise.all([page.waitForNavigation(), page.click("button[type=submit]")]);
    };
    await page.goto(`${site}/a/page?x=1`);
    await look("login");
    if (form === "phone" && colorScheme === "light") {
      // The measures see what is wrong: they are tried on a page that was spoilt.
      const spoilt = await page.evaluate(() => {
        document.querySelector("label").style.color = "#bbb";
        document.querySelector("button").style.padding = "0";
        document.querySelector("#user").removeAttribute("autocomplete");
        document.querySelector("label[for=password]").remove();
        document.querySelector("main").style.minWidth = "500px";
      }).then(() => page.evaluate(measure));
      const wanted = ["contrast", "is 4", "no autocomplete", "no label", "wide in"];
      tell("a page that was spoilt is noticed", wanted.filter((w) => !spoilt.some((s) => s.includes(w))).map((w) => `not seen: ${w} in ${spoilt}`));
      await page.reload();
    }

    // By keyboard alone: the cursor is in the first field, and the ring can be seen at every stop.
    const stops = [];
    const rings = [];
    for (let n = 0; n < 3; n += 1) {
      const [at, ring] = await page.evaluate(() => {
        const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
        return [document.activeElement.id || document.activeElement.tagName, outlineStyle !== "none" && parseFloat(outlineWidth) >= 2];
      });
      stops.push(at);
      if (!ring) rings.push(`no ring around ${at}`);
      if (n < 2) await page.keyboard.press("Tab");
    }
    if (stops.join() !== "user,password,BUTTON") rings.push(`the stops are ${stops.join()}`);
    await look("login-focus", rings);

    await enter("wrong");
    // The cursor is set when the page is drawn, which a busy machine does later.
    await page.waitForFunction(() => document.activeElement?.id === "password", null, { timeout: 30_000 }).catch(() => {});
    const told = await page.evaluate(() => {
      const box = document.querySelector("[role=alert]");
      const fields = [...document.querySelectorAll("input:not([type=hidden])")];
      const faults = [];
      if (!box?.textContent.trim()) faults.push("no alert");
      if (fields.some((f) => f.getAttribute("aria-describedby") !== box?.id || f.getAttribute("aria-invalid") !== "true")) faults.push("the fields do not point to the alert");
      if (document.activeElement.id !== "password" || document.activeElement.value) faults.push("the cursor is not in an empty password");
      if (document.querySelector("#user").value !== "me") faults.push("the name is gone");
      return faults;
    });
    await look("wrong", told);
    await enter("a good password");
    await page.goto(`${site}/.loopgate/`);
    await look("account");
    for (const [name, path, status] of [["forbidden", "/shut", 403], ["down", "/down", 502], ["missing", "/.loopgate/nothing", 404]]) {
      const response = await page.goto(`${site}${path}`);
      await look(name, response.status() === status ? [] : [`status ${response.status()}`]);
    }
    await page.goto(`${site}/.loopgate/`);
    await Promise.all([page.waitForNavigation(), page.click("button[type=submit]")]);
    await look("logged-out");
    await context.close();
  }
}
// The last one, because it lasts: too many wrong ones, counted by the name from everywhere.
const context = await browser.newContext({ viewport: { width: 390, height: 844 } });
const page = await context.newPage();
await page.goto(`${site}/.loopgate/login`);
let status = 0;
for (let n = 0; n < 12 && status !== 429; n += 1) {
  await page.fill("#user", "nobody");
  await page.fill("#password", `wrong ${n}`);
  const [response] = await Promise.all([page.waitForNavigation(), page.click("button[type=submit]")]);
  status = response.status();
}
await page.screenshot({ path: `${SHOTS}/locked-out-phone-light.png` });
tell("locked-out", [...(await page.evaluate(measure)), ...(status === 429 ? [] : [`status ${status}`])]);
await browser.close();
process.exit(failures ? 1 : 0);
