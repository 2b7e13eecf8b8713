// The browser's part of page.py: visits the same page through every peer, in rounds, each first visit with an empty cache and a connection
// of its own, each second one as a reload. Reads its stage from standard input, prints one line of JSON for each peer and round.
import { readFileSync, readdirSync } from "node:fs";
import { launch } from "../browser/chromium.mjs";

const { rounds, loads, host, parts, word, peers } = JSON.parse(readFileSync(0, "utf8"));
const browser = await launch([host]);

// Nanoseconds on a CPU, of all threads of these processes.
const used = (pids) =>
  pids
    .flatMap((pid) => readdirSync(`/proc/${pid}/task`).map((task) => `/proc/${pid}/task/${task}/schedstat`))
    .reduce((sum, file) => {
      try {
        return sum + Number(readFileSync(file, "utf8").split(" ")[0]);
      } catch {
        return sum; // a thread that ended meanwhile
      }
    }, 0);

const visit = async (page, peer, act) => {
  await act();
  const seen = await page.evaluate(() => ({
    took: performance.getEntriesByType("navigation")[0].loadEventEnd,
    word: document.querySelector("#word").textContent,
    protocols: [...new Set(performance.getEntries().filter((one) => one.nextHopProtocol).map((one) => one.nextHopProtocol))].join(),
    parts: performance.getEntriesByType("resource").filter((one) => /^https?:/.test(one.name)).length,
    kib: Math.round(performance.getEntriesByType("resource").reduce((sum, one) => sum + one.decodedBodySize, 0) / 1024),
  }));
  if (seen.word !== word || seen.protocols !== peer.protocol || seen.parts < parts || !(seen.took > 0)) throw new Error(`${peer.name}: ${JSON.stringify(seen)}`);
  return seen;
};
const loaded = (page) => page.waitForFunction(() => performance.getEntriesByType("navigation")[0].loadEventEnd > 0);

for (let round = 0; round <= rounds; round++) {
  for (const peer of peers.map((one) => [Math.random(), one]).sort((a, b) => a[0] - b[0]).map((one) => one[1])) {
    const row = { round, name: peer.name, first: [], again: [], first_cpu_ms: 0, again_cpu_ms: 0 };
    // Round 0 warms up: Vite transforms, programs load their pages.
    for (let n = 0; n < (round ? loads : 1); n++) {
      const context = await browser.newContext();
      if (peer.cookies?.length) await context.addCookies(peer.cookies);
      const page = await context.newPage();
      const acts = [["first", () => page.goto(peer.url, { waitUntil: "load" })], ["again", () => page.reload({ waitUntil: "load" })]];
      for (const [kind, act] of acts) {
        const before = used(peer.pids);
        const seen = await visit(page, peer, async () => {
          await act();
          await loaded(page);
        });
        row[kind].push(seen.took);
        row[`${kind}_cpu_ms`] += (used(peer.pids) - before) / 1e6 / (round ? loads : 1);
        row.parts = seen.parts;
        row.kib = Math.max(row.kib ?? 0, seen.kib);
      }
      await context.close();
    }
    if (round) console.log(JSON.stringify(row));
  }
}
await browser.close();
