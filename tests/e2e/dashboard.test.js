// The dashboard in a browser: what it shows when events come, what its controls do, and how it behaves when the server goes
// away or asks for a key.

import assert from "node:assert/strict";
import {after, afterEach, before, test} from "node:test";
import {Server, browser, events, open, screenshot, until} from "./support.js";

const READ_KEY = "read0123456789abcdef";
const text = (page, selector) => page.locator(selector).innerText();
const count = page => page.locator("#total").getAttribute("data-count").then(Number);
const charted = page => page.locator("#chart").getAttribute("data-total").then(Number);
const rows = page => page.locator("#tail > li > button");

let chromium;
let opened = [];
let servers = [];

before(async () => {
  chromium = await browser();
});
after(() => chromium.close());
afterEach(async () => {
  await Promise.all(opened.map(({context}) => context.close()));
  await Promise.all(servers.map(server => server.remove()));
  opened = [];
  servers = [];
});

async function serve(settings) {
  const server = await Server.start(settings);
  servers.push(server);
  return server;
}

async function look(server, hash = "", options = {}) {
  const tab = await open(chromium, `${server.url}/${hash}`, options);
  opened.push(tab);
  await tab.page.locator('#status[data-state="live"], #status[data-state="locked"]').waitFor();
  return tab;
}

/** Four hundred visitors on their way through a shop, B a good deal better than A; a few of each event now, the rest before. */
function visits() {
  const minutes = index => new Date(Date.now() - 60_000 * (index % 50) - 1_000).toISOString();
  return Array.from({length: 400}, (_, index) => {
    const variant = index % 2 ? "A" : "B";
    const depth = index % 10 < (variant === "A" ? 4 : 8) ? 4 : 1 + index % 3;
    const began = Date.parse(minutes(index));
    return ["page_view", "product_view", "add_to_cart", "purchase"].slice(0, depth).map((event, step) => ({
      visitor_id: `visitor-${index}`, event, timestamp: new Date(began + step).toISOString(), metadata: {variant, path: `/shop/${index % 7}`, price: 1.1},
    }));
  }).flat();
}

test("an empty log is explained, and figures change when events arrive", async () => {
  const server = await serve();
  const {page, seen} = await look(server);
  await page.locator("#welcome").waitFor();
  assert.match(await text(page, "#welcome-shell"), /curl http:\/\/127\.0\.0\.1:\d+\/api\/metrics\/event/);
  await page.locator("#chart-state", {hasText: "No events in the last hour"}).waitFor();
  await screenshot(page, "empty");

  await server.post([...events("page_view", 30), ...events("purchase", 12)]);
  await until("the total", async () => await count(page) === 42);
  assert.equal(await text(page, "#total"), "42");
  await page.locator("#welcome").waitFor({state: "hidden"});
  await until("the rate", async () => Number(await text(page, "#rate")) > 0);
  await until("the ranking", async () => /page_view\s*30\s*71\.4 %\s*purchase\s*12\s*28\.6 %/.test(await text(page, "#ranking")));
  await until("the chart", async () => await charted(page) === 42);
  await until("the tail", async () => await rows(page).count() === 42);
  assert.match(await page.title(), /Floodgate/);
  for (const tile of ["Engine", "Ring", "Journal", "Append", "Sync", "Log", "Disk free", "Connections"]) {
    assert.match(await text(page, "#health"), new RegExp(tile));
  }
  assert.match(await text(page, "#health"), /Running/);
  assert.match(await text(page, "#health"), /[GT]iB/);
  assert.deepEqual(seen.errors, []);
  assert.ok(seen.requests.every(url => url.startsWith(server.url) || url.startsWith("data:")), "nothing comes from other hosts");
});

test("a filter by event shows it alone in chart and tail, stands in the address, and can be shared", async () => {
  const server = await serve();
  await server.post([...events("page_view", 20), ...events("purchase", 7), ...events("search", 3)]);
  const {page} = await look(server);
  await until("the chart", async () => await charted(page) === 30);
  await page.locator("#ranking button", {hasText: "purchase"}).click();
  await until("the chart of one event", async () => await charted(page) === 7);
  await until("the tail of one event", async () => await rows(page).count() === 7);
  assert.match(page.url(), /#event=purchase$/);
  await page.keyboard.press("f");
  await page.keyboard.type("search");
  await page.keyboard.press("Enter");
  await until("the chart of two events", async () => await charted(page) === 10);
  await server.post([...events("page_view", 1), ...events("search", 1)]);
  await until("the tail of two events", async () => await rows(page).count() === 11);

  const other = await look(server, new URL(page.url()).hash);
  await until("the same view", async () => await charted(other.page) === 11);
  assert.equal(await other.page.locator("#chips .chip").count(), 2);

  await page.keyboard.press("Escape");
  await page.keyboard.press("c");
  await until("all of them", async () => await charted(page) === 32);
  assert.ok(!page.url().includes("event="));
});

test("ranges reach as far as they say, and the chart can be read by keyboard and as a table", async () => {
  const server = await serve();
  const ago = minutes => () => ({timestamp: new Date(Date.now() - 60_000 * minutes).toISOString()});
  await server.post([
    ...events("now", 1), ...events("half_an_hour", 2, ago(30)), ...events("this_day", 4, ago(300)),
    ...events("this_week", 8, ago(3 * 1440)), ...events("this_month", 16, ago(20 * 1440)), ...events("long_ago", 32, ago(90 * 1440)),
  ]);
  const {page} = await look(server);
  for (const [key, range, total] of [["1", "15m", 1], ["2", "1h", 3], ["3", "24h", 7], ["4", "7d", 15], ["5", "30d", 31]]) {
    await page.keyboard.press(key);
    await until(`${total} events in ${range}`, async () => await charted(page) === total);
    assert.equal(await page.locator(`#ranges [data-range="${range}"]`).getAttribute("aria-pressed"), "true");
  }
  await page.keyboard.press("2");
  await until("the hour", async () => await charted(page) === 3);
  await page.locator("#chart").focus();
  await page.keyboard.press("End");
  const spoken = () => page.locator("#chart-spoken").textContent();
  await until("the newest bucket, or the one before where a minute has just passed", async () => {
    if (/1 events\. now 1/.test(await spoken())) return true;
    await page.keyboard.press("ArrowLeft");
    return false;
  });
  assert.match(await text(page, "#tip"), /now\s*1/);
  await page.keyboard.press("v");
  const cells = await page.locator("#table tbody tr").evaluateAll(rows => rows.map(row => Number(row.lastElementChild.textContent)));
  assert.equal(cells.length, 60);
  assert.equal(cells.reduce((sum, cell) => sum + cell, 0), 3);
});

test("the tail is live, can be paused and searched, and keeps 500 rows", async () => {
  const server = await serve();
  await server.post(events("before", 5));
  const {page} = await look(server);
  await until("what was there before", async () => await rows(page).count() === 5);
  await server.post(events("live", 3, index => ({metadata: {price: 1.1, order: `order-${index}`}})));
  await until("what has come", async () => await rows(page).count() === 8);
  assert.match(await rows(page).first().innerText(), /live/);

  await page.keyboard.press("p");
  await server.post(events("meanwhile", 4));
  await page.locator("#tail-new", {hasText: "4 new"}).waitFor();
  assert.equal(await rows(page).count(), 8);
  assert.equal(await page.locator("#pause").getAttribute("aria-pressed"), "true");
  await page.locator("#tail-new").click();
  await until("what has come meanwhile", async () => await rows(page).count() === 12);

  await page.keyboard.press("/");
  await page.keyboard.type("order-2");
  await until("what matches", async () => await rows(page).count() === 1);
  await page.keyboard.press("Escape");
  await rows(page).first().focus();
  await page.keyboard.press("Enter");
  assert.match(await text(page, "#tail pre"), /"order": "order-2"/);
  await page.locator("#tail-search").fill("");
  await until("all of them again", async () => await rows(page).count() === 12);

  await server.post(events("many", 900));
  await until("the newest", async () => await rows(page).count() === 500);
  await server.post(events("more", 300));
  await until("the newest of all", async () => /more/.test(await rows(page).first().innerText()));
  assert.ok(await page.locator("#tail > li").count() <= 500);
});

test("what events say is shown and never run", async () => {
  const server = await serve();
  const bad = `<img src=x onerror="document.title='run'">`;
  await server.post([{visitor_id: `<script>document.title="run"</script>`, event: bad, metadata: {[bad]: bad, "__proto__": {polluted: 1}, "\u202e": "\u0000"}}]);
  const {page, seen} = await look(server, `#step=${encodeURIComponent(bad)}&step=x&split=${encodeURIComponent(bad)}`);
  await until("the event", async () => await rows(page).count() === 1);
  await until("the legend", async () => (await text(page, "#legend")).includes(bad));
  await rows(page).first().click();
  await page.keyboard.press("v");
  assert.equal(await page.locator("img, #main script").count(), 0);
  assert.notEqual(await page.title(), "run");
  assert.equal(await page.evaluate(() => ({}).polluted), undefined);
  assert.deepEqual(seen.errors, [], "not even the policy had to hold anything back");
});

test("a funnel counts visitors step by step, and a split compares its groups", async () => {
  const server = await serve();
  const all = visits();
  await server.post(all);
  const {page, seen} = await look(server);
  for (const step of ["page_view", "product_view", "purchase"]) {
    await page.keyboard.press("s");
    await page.keyboard.type(step);
    await page.keyboard.press("Enter");
    await page.keyboard.press("Escape");
  }
  const visitors = name => all.filter(({event}) => event === name).length;
  const numbers = () => page.locator("#funnel li .num:not(.share)").allInnerTexts();
  const expected = ["page_view", "product_view", "purchase"].map(name => String(visitors(name)));
  await until("the funnel", async () => String(await numbers()) === String(expected));
  await page.locator("#split").fill("variant");
  await page.locator("#split").blur();
  await page.locator("#split-table tbody tr").nth(1).waitFor();
  const groups = await page.locator("#split-table tbody tr").allInnerTexts();
  assert.deepEqual(groups.map(group => group.split(/\s+/)[0]).sort(), ["A", "B"]);
  assert.match(groups.join(), /the basis/);
  assert.match(groups.join(), /points, p < 0\.001: hardly chance/);
  await page.locator("#over").selectOption("recent");
  await page.locator("#funnel-note", {hasText: "the recent window of 500 events"}).waitFor();
  await page.locator("#over").selectOption("1h");
  await page.locator("#funnel-note", {hasText: "in the last hour"}).waitFor();
  await until("the hour's funnel", async () => String(await numbers()) === String(expected));
  await page.locator("#split-table tbody tr").nth(1).waitFor();
  assert.match(page.url(), /step=page_view&step=product_view&step=purchase&split=variant&over=1h/);
  assert.deepEqual(seen.errors, []);
  await screenshot(page, "funnel");
});

test("light and dark are the system's until one is chosen, which is kept", async () => {
  const server = await serve();
  await server.post(visits());
  const {page} = await look(server, "", {colorScheme: "dark"});
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
  const server = await serve();
  for (const colorScheme of ["light", "dark"]) {
    const {page} = await look(server, "", {colorScheme});
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
  const server = await serve();
  await server.post(events("page_view", 10));
  const {page, seen} = await look(server);
  await until("the tail", async () => await rows(page).count() === 10);
  await until("the total", async () => await count(page) === 10);
  await server.stop();
  await page.locator("#banner").waitFor();
  assert.match(await text(page, "#banner"), /The server does not answer.*(Next try in \d+ s|Trying…)/s);
  assert.equal(await text(page, "#status"), "No connection");
  assert.equal(await text(page, "#total"), "10");
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
  const server = await serve({METRICS_READ_KEYS: READ_KEY});
  await server.post(events("page_view", 6));
  const {page, context, seen} = await look(server);
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
  const server = await serve();
  await server.post(visits());
  const {page} = await look(server, "#step=page_view&step=purchase&split=variant", {viewport: {width: 360, height: 780}});
  await until("the chart", async () => await charted(page) > 0);
  await page.locator("#split-table tbody tr").first().waitFor();
  const widest = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(widest <= 360, `the page is ${widest} wide`);
  await screenshot(page, "narrow");
  const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, select, [tabindex='0']")].filter(control => {
    const named = control.getAttribute("aria-label") || control.getAttribute("aria-labelledby") || control.labels?.length || control.textContent.trim();
    return !named;
  }).map(control => control.outerHTML));
  assert.deepEqual(nameless, []);
  const duplicates = await page.evaluate(() => [...document.querySelectorAll("[id]")].map(({id}) => id).filter((id, index, all) => all.indexOf(id) !== index));
  assert.deepEqual(duplicates, []);
});

test("the keys are told by a question mark, and do nothing while somebody writes", async () => {
  const server = await serve();
  const {page} = await look(server);
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
