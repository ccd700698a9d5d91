// The page that `floodgate load --html` leaves: on a screen in both themes, on a phone, and on paper.

import assert from "node:assert/strict";
import {spawnSync} from "node:child_process";
import {join} from "node:path";
import {test} from "node:test";
import {pathToFileURL} from "node:url";
import {open, screenshot, staged} from "./support.js";

const stage = staged();

const colours = page => page.evaluate(() => [document.body, document.querySelector("h1")].map(element => getComputedStyle(element)).map(({backgroundColor, color}) => ({backgroundColor, color})));

test("the page of a load test is whole, asks for nothing, and can be read on a screen, a phone and paper", async () => {
  const server = await stage.serve();
  const file = join(server.folder, "run.html");
  const ramp = ["load", server.url, "--rate", "200..400", "--duration", "300ms", "--p99", "10s", "--html", file];
  const {status, stderr} = spawnSync(process.env.FLOODGATE_BINARY, ramp, {encoding: "utf8"});
  assert.equal(status, 0, stderr);
  for (const [name, options] of [["report", {}], ["report-dark", {colorScheme: "dark"}], ["report-narrow", {viewport: {width: 360, height: 780}}]]) {
    const {page, context, seen} = await open(stage.browser, pathToFileURL(file).href, options);
    assert.deepEqual(await page.locator("h2").allInnerTexts().then(titles => titles.filter(title => title !== "Over time")), ["Latency", "Ramp", "Circumstances"]);
    const size = await page.evaluate(() => ({page: document.documentElement.scrollWidth, window: innerWidth, tables: [...document.querySelectorAll(".scroll")].map(({scrollWidth, clientWidth}) => scrollWidth - clientWidth)}));
    assert.ok(size.page <= size.window, `${name}: the page is ${size.page} wide`);
    assert.ok(size.tables.every(hidden => hidden <= 0), `${name}: a table is wider than its place by ${size.tables}`);
    assert.equal(await page.locator("svg[role=img]").filter({visible: true}).count() >= 2, true);
    await screenshot(page, name);
    assert.deepEqual(seen.errors, []);
    assert.deepEqual(seen.requests, [pathToFileURL(file).href]);
    await context.close();
  }
  const {page, context} = await open(stage.browser, pathToFileURL(file).href, {colorScheme: "dark"});
  const [body, title] = await colours(page);
  await page.emulateMedia({media: "print", colorScheme: "dark"});
  const [paper, ink] = await colours(page);
  assert.notEqual(paper.backgroundColor, body.backgroundColor);
  assert.equal(paper.backgroundColor, "rgb(255, 255, 255)");
  assert.notEqual(ink.color, title.color);
  await screenshot(page, "report-paper");
  await context.close();
});
