// One application in Chromium, behind the gate: `apps.mjs NAME`, as apps.sh sets the stage.
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { SITE, WAIT, WORK, check, complaints, context, enter, holds, page, same, sockets, text, visit } from "./visit.mjs";

// An edit that is seen without a reload: the mark on the window stays, and the socket is one of ours.
const edit = async (file) => {
  await text("#word", "first");
  await page.waitForFunction(() => document.readyState === "complete");
  const ours = SITE.replace("https:", "wss:");
  const end = Date.now() + WAIT;
  while (!sockets.some((one) => one.frames > 0) && Date.now() < end) await new Promise((done) => setTimeout(done, 50));
  holds(sockets.length > 0 && sockets.every((one) => one.url.startsWith(ours)), `sockets: ${JSON.stringify(sockets)}`);
  await page.evaluate(() => (window.mark = "still here"));
  writeFileSync(file, readFileSync(file, "utf8").replace("first", "second"));
  const began = Date.now();
  await text("#word", "second");
  same(await page.evaluate(() => window.mark), "still here");
  return `${Date.now() - began} ms`;
};

const applications = {
  async vite() {
    await check("login leads to its page", () => enter());
    await check("an edit is seen without a reload", () => edit(`${WORK}/vite/word.js`));
  },
  async webpack() {
    await check("login leads to its page", () => enter());
    await check("an edit is seen without a reload", () => edit(`${WORK}/webpack/word.js`));
  },
  async next() {
    await check("login leads to its page", () => enter());
    await check("an edit is seen without a reload", () => edit(`${WORK}/next/app/word.js`));
    // It compares `Origin` with the name that it believes to be called by.
    await check("a server action, and its redirect", async () => {
      await page.goto(`${SITE}/act`);
      await page.fill("#input", "words");
      await page.click("button[type=submit]");
      await text("#said", "words");
      same(page.url(), `${SITE}/act?said=words`);
    });
  },
  async django() {
    await check("login leads to its own login", async () => {
      await enter("/admin/");
      same(page.url(), `${SITE}/admin/login/?next=/admin/`);
    });
    await check("its form and its CSRF cookie", async () => {
      await page.fill("#id_username", "admin");
      await page.fill("#id_password", "of-this-check");
      await Promise.all([page.waitForNavigation(), page.click("[type=submit]")]);
      same(page.url(), `${SITE}/admin/`);
      await text("#content", "Site administration");
      const cookies = await context.cookies(SITE);
      same(cookies.map((one) => one.name.replace(/^(__Host-loopgate)-.*/, "$1")).sort().join(), "__Host-loopgate,csrftoken,sessionid");
      same([...new Set(cookies.map((one) => one.domain))].join(), new URL(SITE).hostname);
    });
    await check("an object is made", async () => {
      await page.goto(`${SITE}/admin/auth/group/add/`);
      await page.fill("#id_name", "Gärtner");
      await Promise.all([page.waitForNavigation(), page.click("[name=_save]")]);
      same(page.url(), `${SITE}/admin/auth/group/`);
      await text("#result_list", "Gärtner");
    });
    await check("its own logout is not ours", async () => {
      await Promise.all([page.waitForNavigation(), page.click("#logout-form button")]);
      await page.goto(`${SITE}/admin/`);
      same(page.url(), `${SITE}/admin/login/?next=/admin/`);
    });
    await check("a form without its CSRF token is still refused by it", async () => {
      const answer = await page.evaluate(() => fetch("/admin/login/", { method: "POST", body: new URLSearchParams({ username: "admin" }) }).then((one) => one.status));
      same(answer, 403);
      complaints.splice(0, complaints.length, ...complaints.filter((one) => !one.includes("403")));
    });
  },
  async echo() {
    await check("login leads to its page", () => enter());
    await check("it goes over to WebSocket", () => text("#transport", "websocket"));
    await check("text and bytes come back", async () => {
      same(await page.evaluate(() => echo("grüße ✓")), "grüße ✓");
      same(await page.evaluate(() => echo(new Uint8Array(200_000).fill(7)).then((bytes) => new Uint8Array(bytes).reduce((a, b) => a + b, 0))), 1_400_000);
    });
  },
  async sockets() {
    await check("login leads to its page", () => enter());
    await page.evaluate(() => {
      window.open = (path, offered) =>
        new Promise((done) => {
          const socket = new WebSocket(`wss://${location.host}${path}`, offered);
          const seen = (event) => done({ socket, open: event.type === "open", protocol: socket.protocol });
          socket.onopen = seen;
          socket.onerror = seen;
        });
      window.end = (socket) => new Promise((done) => (socket.onclose = ({ code, reason, wasClean }) => done(`${code} ${reason} ${wasClean}`)));
      window.echo = (socket, words) =>
        new Promise((done) => {
          socket.onmessage = ({ data }) => done(data);
          socket.send(words);
        });
    });
    await check("a subprotocol is agreed on", async () => same(await page.evaluate(async () => (await open("/", ["one", "two"])).protocol), "two"));
    await check("close code and reason of the service", async () => {
      const got = await page.evaluate(async () => {
        const { socket } = await open("/", ["two"]);
        socket.send("close");
        return await end(socket);
      });
      same(got, "4001 grüße true");
    });
    await check("close code and reason of the page", async () => {
      const got = await page.evaluate(async () => {
        const { socket } = await open("/", ["two"]);
        const over = end(socket);
        socket.close(4002, "tschüß");
        return await over;
      });
      same(got, "4002 tschüß true");
      await page.waitForFunction(() => fetch("/ended").then((answer) => answer.json()).then((all) => all.includes("4002 tschüß")));
    });
    await check("a socket that is cut is seen as cut", async () => {
      const got = await page.evaluate(async () => {
        const { socket } = await open("/", ["two"]);
        socket.send("cut");
        return await end(socket);
      });
      same(got, "1006  false");
    });
    await check("a refusal of the service is one", async () => same(await page.evaluate(async () => (await open("/refused")).open), false));
    complaints.splice(0, complaints.length, ...complaints.filter((one) => !/\/refused' failed: .*(403|response code)/.test(one)));
    await check("silence ends nothing, however short the limits are", async () => {
      const got = await page.evaluate(async () => {
        const { socket } = await open("/", ["two"]);
        await new Promise((done) => setTimeout(done, 8000));
        return await echo(socket, "still here");
      });
      same(got, "still here");
    });
  },
  async absent() {
    await enter();
    await check("a page says that nothing answers", async () => {
      // A visitor waits only a moment for the hint: where the machine is busy, the next one hears it.
      const said = `Nothing listens on localhost:${process.env.UPSTREAM}`;
      let words = await page.textContent("body");
      for (let n = 0; n < 20 && !words.includes(said); n += 1) {
        await page.reload();
        words = await page.textContent("body");
      }
      holds(words.includes(said), words);
    });
    await check("in less than a second", async () => {
      // Once in five a machine that has other work is in time.
      let quickest = Infinity;
      for (let n = 0; n < 5 && quickest >= 1000; n += 1) {
        same((await page.reload()).status(), 502);
        quickest = Math.min(quickest, await page.evaluate(() => performance.getEntriesByType("navigation")[0].responseEnd));
      }
      holds(quickest < 1000, `${quickest} ms`);
      return `${Math.round(quickest)} ms`;
    });
    const service = spawn("node", [new URL("apps/echo.cjs", import.meta.url).pathname, process.env.UPSTREAM], { stdio: "ignore" });
    try {
      await check("it becomes the application's page by itself, once that is there", () => text("#transport", "websocket"));
    } finally {
      service.kill();
    }
    complaints.splice(0, complaints.length, ...complaints.filter((one) => !one.includes("502")));
  },
  async terminal() {
    await check("login leads to its page", () => enter());
    await check("a shell answers", async () => {
      await page.waitForFunction(() => /[$#]\s*$/.test(screen()));
      await page.locator(".xterm-helper-textarea").pressSequentially("echo grüße $((6*7)) $(stty size)\n");
      await page.waitForFunction(() => screen().includes("\ngrüße 42 24 80"));
    });
    await check("Ctrl-C, and a long output", async () => {
      const keys = page.locator(".xterm-helper-textarea");
      // A key that comes while the shell is about to start the program is the shell's, which ignores it: once more is harmless.
      await keys.pressSequentially("echo up=$((1+1)); sleep 600\n");
      await page.waitForFunction(() => screen().includes("\nup=2"));
      for (let n = 0; n < 3; n++) {
        await page.waitForTimeout(300);
        await keys.press("Control+c");
      }
      await page.waitForTimeout(300);
      await keys.pressSequentially("seq 100000 | tail -n 50000; echo done=$((1+1))\n");
      await page.waitForFunction(() => screen().includes("\ndone=2"));
      holds(await page.evaluate(() => screen().includes("\n100000\n")), "lines are missing");
    });
    await check("its end is seen", async () => {
      await page.locator(".xterm-helper-textarea").pressSequentially("exit\n");
      await page.waitForFunction(() => document.title.startsWith("closed"));
      return await page.title();
    });
  },
  async jupyter() {
    await check("login leads to the notebook", () => enter("/notebooks/cell.ipynb"));
    await check("a cell runs", async () => {
      const cell = page.locator(".jp-CodeCell").first();
      await cell.waitFor({ timeout: 60_000 });
      await page.getByText("Idle").first().waitFor({ timeout: 60_000 }).catch(() => {});
      await cell.locator(".cm-content").click();
      await page.keyboard.press("Shift+Enter");
      await page.waitForFunction(() => document.querySelector(".jp-OutputArea-output")?.textContent.includes("42 from the kernel"), null, { timeout: 60_000 });
      holds(sockets.some((one) => one.url.includes("/api/kernels/") && one.frames > 0), JSON.stringify(sockets));
    });
    await check("it is saved", async () => {
      const saved = page.waitForResponse((answer) => answer.request().method() === "PUT" && answer.url().includes("/api/contents/"));
      await page.keyboard.press("Control+s");
      same((await saved).status(), 200);
    });
  },
  async streamlit() {
    await check("login leads to its page", () => enter());
    await check("a button, over its socket", async () => {
      await page.getByText("pressed 0 times").waitFor();
      await page.getByRole("button", { name: "Press" }).click();
      await page.getByText("pressed 1 times").waitFor();
    });
    await check("a text", async () => {
      await page.getByLabel("Word").fill("abc");
      await page.keyboard.press("Enter");
      await page.getByText("it says cba").waitFor();
    });
    await check("an upload, with its own protection against forgery", async () => {
      await page.setInputFiles("input[type=file]", { name: "file.bin", mimeType: "application/octet-stream", buffer: Buffer.alloc(3_000_000, 7) });
      await page.getByText("the file has 3000000 bytes").waitFor();
    });
  },
  async gradio() {
    await check("login leads to its page", () => enter());
    await check("a word turned around, as events", async () => {
      await page.locator("textarea").first().fill("loopgate");
      await page.getByRole("button", { name: "Submit" }).click();
      await page.waitForFunction(() => [...document.querySelectorAll("textarea")].some((one) => one.value === "etagpool"));
    });
  },
};

await visit(applications);
