// The dashboard in a browser: what it shows when events come, and what its controls do.

import assert from "node:assert/strict";
import {test} from "node:test";
import {charted, count, events, rows, screenshot, staged, text, until, visits} from "./support.js";

const stage = staged();

test("an empty log is explained, and figures change when events arrive", async () => {
  const server = await stage.serve();
  const {page, seen} = await stage.look(server);
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
  const server = await stage.serve();
  await server.post([...events("page_view", 20), ...events("purchase", 7), ...events("search", 3)]);
  const {page} = await stage.look(server);
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

  const other = await stage.look(server, new URL(page.url()).hash);
  await until("the same view", async () => await charted(other.page) === 11);
  assert.equal(await other.page.locator("#chips .chip").count(), 2);

  await page.keyboard.press("Escape");
  await page.keyboard.press("c");
  await until("all of them", async () => await charted(page) === 32);
  assert.ok(!page.url().includes("event="));
});

test("ranges reach as far as they say, and the chart can be read by keyboard and as a table", async () => {
  const server = await stage.serve();
  const ago = minutes => () => ({timestamp: new Date(Date.now() - 60_000 * minutes).toISOString()});
  await server.post([
    ...events("now", 1), ...events("half_an_hour", 2, ago(30)), ...events("this_day", 4, ago(300)),
    ...events("this_week", 8, ago(3 * 1440)), ...events("this_month", 16, ago(20 * 1440)), ...events("long_ago", 32, ago(90 * 1440)),
  ]);
  const {page} = await stage.look(server);
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
  // The tip is painted with the next frame.
  await until("the tip says so too", async () => /now\s*1/.test(await text(page, "#tip")));
  await page.keyboard.press("v");
  const cells = await page.locator("#table tbody tr").evaluateAll(rows => rows.map(row => Number(row.lastElementChild.textContent)));
  assert.equal(cells.length, 60);
  assert.equal(cells.reduce((sum, cell) => sum + cell, 0), 3);
});

test("the tail is live, can be paused and searched, and keeps 500 rows", async () => {
  const server = await stage.serve();
  await server.post(events("before", 5));
  const {page} = await stage.look(server);
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
  const server = await stage.serve();
  const bad = `<img src=x onerror="document.title='run'">`;
  await server.post([{visitor_id: `<script>document.title="run"</script>`, event: bad, metadata: {[bad]: bad, "__proto__": {polluted: 1}, "\u202e": "\u0000"}}]);
  const {page, seen} = await stage.look(server, `#step=${encodeURIComponent(bad)}&step=x&split=${encodeURIComponent(bad)}`);
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
  const server = await stage.serve();
  const all = visits();
  await server.post(all);
  const {page, seen} = await stage.look(server);
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

