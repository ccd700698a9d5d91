// The dashboard of a fleet: the choice of a node, and what it is applied to.

import assert from "node:assert/strict";
import {test} from "node:test";
import {charted, count, events, rows, screenshot, staged, text, until} from "./support.js";

const stage = staged();

/** A fleet of three: eu-1 and eu-2 have page views and orders, us-1 has searches. */
async function fleet() {
  const {nats, nodes: [one, two, three], view} = await stage.fleet(["eu-1", "eu-2", "us-1"]);
  await one.post([...events("page_view", 30), ...events("order", 6, index => ({visitor_id: `visitor-page_view-${index}`}))]);
  await two.post([...events("page_view", 20), ...events("order", 15, index => ({visitor_id: `visitor-page_view-${index}`}))]);
  await three.post(events("search", 9));
  await until("the view to have all of them", async () => (await view.get("/api/metrics/behavior?limit=1")).total === 80);
  return {nats, one, two, three, view};
}

test("a node is chosen for figures, chart, ranking, tail and funnel, by keyboard, and stands in the address", async () => {
  const {one, two, view} = await fleet();
  const {page, seen} = await stage.look(view, "#step=page_view&step=order&over=1h");
  await until("all events", async () => await count(page) === 80 && await charted(page) === 80 && await rows(page).count() === 80);
  const node = page.getByLabel("Node", {exact: true});
  assert.deepEqual(await node.locator("option").allInnerTexts(), ["All nodes", "eu-1", "eu-2", "us-1"]);
  assert.match(await text(page, "#health"), /Fleet\s+●\s+3 nodes/);
  assert.match(await text(page, "#tail"), /node=us-1/);
  await until("the funnel of all", async () => /1\. page_view\s+30\s/.test(await text(page, "#funnel")));
  await screenshot(page, "fleet");

  await page.keyboard.press("n");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  assert.equal(await node.inputValue(), "eu-2");
  await until("the count of eu-2", async () => await count(page) === 35);
  assert.equal(await text(page, "#total-note"), "in the last hour from eu-2");
  await until("its chart", async () => await charted(page) === 35);
  assert.match(await text(page, "#series-note"), /^35 in the last hour from eu-2, /);
  await until("its ranking", async () => /page_view\s*20\s*57\.1 %\s*order\s*15\s*42\.9 %/.test(await text(page, "#ranking")));
  assert.doesNotMatch(await text(page, "#ranking"), /search/);
  await until("its tail", async () => await rows(page).count() === 35);
  await until("its funnel", async () => /1\. page_view\s+20\s.*2\. order\s+15\s/s.test(await text(page, "#funnel")));
  await until("its tile", async () => /Fleet\s+●\s+eu-2\s+up to date/.test(await text(page, "#health")));
  assert.match(page.url(), /#node=eu-2&/);
  await page.keyboard.press("Escape");
  await page.keyboard.press("v");
  await page.locator("#table caption", {hasText: "from eu-2"}).waitFor();
  await page.keyboard.press("v");

  await one.post(events("elsewhere", 50));
  await two.post(events("here", 5));
  await until("what has come to eu-2", async () => await rows(page).count() === 40);
  assert.doesNotMatch(await text(page, "#tail"), /elsewhere/);
  await until("its rate", async () => /^[\d.]+\/s · eu-2 · Floodgate$/.test(await page.title()));
  await until("its new count", async () => await count(page) === 40);
  await screenshot(page, "fleet-node");

  const other = await stage.look(view, new URL(page.url()).hash, {colorScheme: "dark"});
  await until("the same view", async () => await count(other.page) === 40 && await charted(other.page) === 40);
  assert.equal(await other.page.locator("#node").inputValue(), "eu-2");
  await until("the tail", async () => await rows(other.page).count() === 40);
  await screenshot(other.page, "fleet-node-dark");

  await page.locator("#node").selectOption("All nodes");
  await until("all events again", async () => await count(page) === 135 && await charted(page) === 135);
  assert.ok(!page.url().includes("node="));
  assert.equal(await page.title().then(title => title.includes("eu-2")), false);
  assert.deepEqual([...seen.errors, ...other.seen.errors], []);
});

test("nodes can be chosen while NATS is away, and on a phone", async () => {
  const {nats, view} = await fleet();
  await view.stop();
  await nats.remove();
  await view.startAgain();
  const {page} = await stage.look(view, "#node=us-1", {viewport: {width: 360, height: 780}});
  await until("the events of us-1", async () => await count(page) === 9);
  assert.deepEqual(await page.locator("#node option").allInnerTexts(), ["All nodes", "eu-1", "eu-2", "us-1"]);
  const widest = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(widest <= 360, `the page is ${widest} wide`);
  await screenshot(page, "fleet-narrow");
});

test("a server by itself has no choice of nodes, and one that is asked for all the same can be left again", async () => {
  const server = await stage.serve({METRICS_NODE: "eu-1"});
  await server.post(events("page_view", 7));
  const {page} = await stage.look(server);
  await until("its events", async () => await count(page) === 7);
  assert.ok(!await page.locator("#node-choice").isVisible());

  const other = await stage.look(server, "#node=gone");
  await other.page.locator("#chart-state", {hasText: "No events in the last hour from gone."}).waitFor();
  await until("nothing of it", async () => await count(other.page) === 0 && await rows(other.page).count() === 0);
  await other.page.locator("#node").selectOption("All nodes");
  await until("its events", async () => await count(other.page) === 7 && await charted(other.page) === 7);
  assert.ok(!await other.page.locator("#node-choice").isVisible());
});
