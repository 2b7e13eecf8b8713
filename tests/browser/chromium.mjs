// Chromium as every check here starts it: nothing is ignored, and it asks nobody else.
import { chromium } from "playwright-core";

const QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

// `names` are ours; the rest is asked of the machine. `options` are those of the launch.
export const launch = (names = [], options = {}) =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    timeout: 60_000,
    args: names.length ? [...QUIET, `--host-resolver-rules=${names.map((name) => `MAP ${name} 127.0.0.1`).join(", ")}`] : QUIET,
    ...options,
  });
