// The dashboard as a page: its colours, its size, its keys, and how it behaves when the server goes away or asks for a key.

import assert from "node:assert/strict";
import {test} from "node:test";
import {charted, count, events, open, rows, screenshot, staged, text, until, visits} from "./support.js";

const READ_KEY = "read0123456789abcdef";
const stage = staged();

test("light and dark are the system's until one is chosen, which is kept", async () => {
  const server = await stage.serve();
  await server.post(visits());
  const {page} = await stage.look(server, "", {colorScheme: "dark"});
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await ground();
  await until("the chart", async () => await charted(page) > 0);
  await screenshot(page, "dark");
  await page.keyboard.press("t");
  assert.equal(await page.locator("html").getAttribute("data-theme"), "light");
  const light = await ground();
  assert.notEqual(light, dark);
  await page.reload();
  assert.equal(await ground(), light);
  await until("the chart", async () => await charted(page) > 0);
  await until("the tail", async () => await rows(page).count() > 0);
  await screenshot(page, "light");
});

test("text and marks can be told from what is behind them, in both themes", async () => {
  const server = await stage.serve();
  for (const colorScheme of ["light", "dark"]) {
    const {page} = await stage.look(server, "", {colorScheme});
    const poor = await page.evaluate(() => {
      const style = getComputedStyle(document.documentElement);
      const luminance = name => {
        const [red, green, blue] = style.getPropertyValue(name).trim().match(/[0-9a-f]{2}/gi).map(pair => {
          const part = parseInt(pair, 16) / 255;
          return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
      };
      const contrast = (a, b) => {
        const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
        return (light + 0.05) / (dark + 0.05);
      };
      const pairs = [
        ...["--ink", "--muted", "--accent", "--ok", "--warn", "--bad"].map(name => [name, "--surface", 4.5]),
        ...["--ink", "--muted"].flatMap(name => ["--ground", "--raised", "--wash", "--bad-wash"].map(ground => [name, ground, 4.5])),
        ["--accent-ink", "--accent", 4.5], ["--accent", "--wash", 4.5], ["--bad", "--bad-wash", 4.5],
        ...Array.from({length: 10}, (_, index) => [`--c${index}`, "--surface", 3]), ["--rest", "--surface", 3], ["--field", "--surface", 3],
      ];
      return pairs.map(([a, b, least]) => [a, b, contrast(a, b), least]).filter(([, , found, least]) => found < least);
    });
    assert.deepEqual(poor, [], colorScheme);
  }
});

test("when the server goes away the page says so, and goes on by itself when it is back", async () => {
  const server = await stage.serve();
  await server.post(events("page_view", 10));
  const {page, seen} = await stage.look(server);
  await until("the tail", async () => await rows(page).count() === 10);
  await until("the total", async () => await count(page) === 10);
  await server.stop();
  await page.locator("#banner").waitFor();
  assert.match(await text(page, "#banner"), /The server does not answer.*(Next try in \d+ s|Trying…)/s);
  assert.equal(await text(page, "#status"), "No connection");
  assert.equal(await text(page, "#total"), "10");
  assert.match(await page.locator(".health").evaluate(health => getComputedStyle(health).filter), /grayscale/, "an old green light is not green");
  await screenshot(page, "error");
  await server.startAgain();
  await server.post(events("purchase", 5));
  await page.locator('#status[data-state="live"]').waitFor();
  assert.ok(!await page.locator("#banner").isVisible());
  await until("the total", async () => await count(page) === 15);
  await until("what came meanwhile, once", async () => await rows(page).count() === 15);
  await server.post(events("search", 2));
  await until("what comes now", async () => await rows(page).count() === 17);
  assert.deepEqual(seen.errors, []);
});

test("a page asks for the read key, keeps it to itself, and forgets it on demand", async () => {
  const server = await stage.serve({METRICS_READ_KEYS: READ_KEY});
  await server.post(events("page_view", 6));
  const {page, context, seen} = await stage.look(server);
  const dialog = page.locator("#key-dialog");
  await dialog.waitFor();
  await screenshot(page, "key");
  await page.keyboard.press("Escape");
  assert.ok(await dialog.isVisible(), "there is nothing to see behind it");
  await page.locator("#key").fill("wrong0123456789abcdef");
  await page.keyboard.press("Enter");
  await page.locator("#key-error", {hasText: "The key is not known."}).waitFor();
  await page.locator("#key").fill(READ_KEY);
  await page.keyboard.press("Enter");
  await dialog.waitFor({state: "hidden"});
  await until("the total", async () => await count(page) === 6);
  await until("the tail", async () => await rows(page).count() === 6);
  await page.reload();
  await until("the total, without asking again", async () => await count(page) === 6);
  assert.ok(seen.requests.every(url => !url.includes(READ_KEY)), "the key is in no address");

  const second = await context.newPage();
  await second.goto(`${server.url}/`);
  await second.locator("#key-dialog").waitFor();
  await second.locator("#key").fill(READ_KEY);
  await second.locator("#key-remember").check();
  await second.keyboard.press("Enter");
  await second.locator("#key-dialog").waitFor({state: "hidden"});
  const third = await context.newPage();
  await third.goto(`${server.url}/`);
  await until("the total in a tab that was told nothing", async () => await count(third) === 6);
  await third.locator("#key-button").click();
  await third.locator("#key-dialog").waitFor();
  assert.equal(await third.evaluate(() => JSON.stringify([localStorage, sessionStorage]).includes("read-key")), false);
});

test("a phone has room for all of it, and every control has a name", async () => {
  const server = await stage.serve();
  await server.post(visits());
  const {page} = await stage.look(server, "#step=page_view&step=purchase&split=variant", {viewport: {width: 360, height: 780}});
  await until("the chart", async () => await charted(page) > 0);
  await page.locator("#split-table tbody tr").first().waitFor();
  const widest = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(widest <= 360, `the page is ${widest} wide`);
  await screenshot(page, "narrow");
  const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, select, [tabindex='0']")].filter(control => control.checkVisibility()).filter(control => {
    const named = control.getAttribute("aria-label") || control.getAttribute("aria-labelledby") || control.labels?.length || control.textContent.trim();
    return !named;
  }).map(control => control.outerHTML));
  assert.deepEqual(nameless, []);
  const duplicates = await page.evaluate(() => [...document.querySelectorAll("[id]")].map(({id}) => id).filter((id, index, all) => all.indexOf(id) !== index));
  assert.deepEqual(duplicates, []);
});

test("the keys are told by a question mark, and do nothing while somebody writes", async () => {
  const server = await stage.serve();
  const {page} = await stage.look(server);
  await page.keyboard.press("?");
  await page.locator("#help-dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.locator("#help-dialog").waitFor({state: "hidden"});
  await page.locator("#filter").focus();
  await page.keyboard.type("p1?t");
  assert.equal(await page.locator("#filter").inputValue(), "p1?t");
  assert.equal(await page.locator("#pause").getAttribute("aria-pressed"), "false");
  assert.ok(!await page.locator("#help-dialog").isVisible());
});

test("an EventSource whose place is not in the log is told of a gap and goes on", async () => {
  const server = await stage.serve();
  await server.post(events("before", 3));
  const {page} = await stage.look(server);
  const heard = page.evaluate(() => new Promise(resolve => {
    const source = new EventSource("/api/metrics/behavior/stream?last_event_id=9:9");
    const heard = [];
    source.addEventListener("gap", ({data}) => heard.push(data));
    source.addEventListener("gap", () => window.hasGap = true);
    source.addEventListener("message", ({data, lastEventId}) => {
      heard.push(JSON.parse(data).event, lastEventId.split(":")[0]);
      source.close();
      resolve(heard);
    });
  }));
  await page.waitForFunction(() => window.hasGap);
  await server.post(events("after", 1));
  assert.deepEqual(await heard, ['{"skipped":null}', "after", "1"]);
});

test("the description of the API is a page that shows its endpoints, by its own files alone", async () => {
  const server = await stage.serve();
  for (const [name, options] of [["docs", {}], ["docs-dark", {colorScheme: "dark"}], ["docs-narrow", {viewport: {width: 375, height: 800}}]]) {
    const {page, context, seen} = await open(stage.browser, `${server.url}/docs`, options);
    await page.locator("article").first().waitFor();
    const description = await server.get("/openapi.json");
    const operations = Object.values(description.paths).flatMap(path => Object.keys(path));
    assert.equal(await page.locator("article").count(), operations.length);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), name);
    const form = page.locator("#health form");
    await form.locator("button.send").click();
    await form.locator("strong.ok").waitFor();
    await screenshot(page, name);
    assert.deepEqual(seen.errors, []);
    assert.ok(seen.requests.every(url => url.startsWith(server.url) || url.startsWith("data:")), seen.requests.join());
    await context.close();
  }
});
