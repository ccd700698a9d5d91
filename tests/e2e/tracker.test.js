// The tracker on pages of another origin: what it sends, when, how often, and to whom it sends nothing.

import assert from "node:assert/strict";
import {readFileSync} from "node:fs";
import {after, before, test} from "node:test";
import {minified} from "./minify.js";
import {Server, browser, open, origin, until} from "./support.js";

const tracker = readFileSync(new URL("../../src/web/tracker.js", import.meta.url), "utf8");
let chromium, server, shop;
/** What the shop's pages are; `SERVER` stands for the server under test. */
let pages = {};

before(async () => {
  chromium = await browser();
  shop = await origin(({url}) => {
    const path = url.split("?")[0];
    if (path === "/own-tracker.js") return {type: "text/javascript", text: tracker};
    const text = pages[path];
    return text === undefined ? undefined : {text: `<!doctype html><title>page ${path}</title>${text.replaceAll("SERVER", server.url)}`};
  });
  server = await Server.start({METRICS_CORS_ORIGINS: shop.url});
});
after(async () => {
  await chromium.close();
  await shop.close();
  await server.remove();
});

const of = name => server.stored().filter(({event}) => event === name);
const storage = page => page.evaluate(() => ({...localStorage}));

test("what is served is made of the source, and below 2 KB", async () => {
  assert.equal(tracker, await minified(), "run tests/e2e/run minify >src/web/tracker.js");
  const answer = await fetch(`${server.url}/tracker.js`);
  const served = await answer.text();
  assert.equal(served, tracker);
  assert.ok(Buffer.byteLength(served) < 2_048, `${Buffer.byteLength(served)} bytes`);
});

test("page views and events arrive with their visitor, time and metadata", async () => {
  pages = {"/": `<script>window.floodgate=window.floodgate||function(){(floodgate.q=floodgate.q||[]).push(arguments)};floodgate("early",{n:1})</script>
    <script async src="SERVER/tracker.js" data-auto></script>`};
  const {page, seen} = await open(chromium, `${shop.url}/?token=secret`);
  await page.waitForFunction(() => !floodgate.q);
  await page.evaluate(() => {
    floodgate("bought", {price: 1.1, name: "é \" </script>"});
    history.pushState(null, "", "/next");
  });
  await until("the second page view", () => of("page_view").length === 2);
  const stored = server.stored();
  assert.equal(new Set(stored.map(({visitor_id: id}) => id)).size, 1);
  const [{visitor_id: id}] = stored;
  assert.ok(id.length >= 6 && id.length <= 64, id);
  assert.equal((await storage(page))["floodgate.id"], id);
  assert.deepEqual(of("early")[0].metadata, {n: 1});
  assert.deepEqual(of("bought")[0].metadata, {price: 1.1, name: "é \" </script>"});
  assert.deepEqual(of("page_view").map(({metadata}) => metadata.path), ["/", "/next"]);
  assert.ok(!JSON.stringify(stored).includes("secret"), "what stands behind a question mark is nobody's business");
  assert.match(of("bought")[0].user_agent, /Chrome/);
  assert.deepEqual(seen.errors, []);
  await page.goto(`${shop.url}/`);
  await until("the third page view", () => of("page_view").length === 3);
  assert.equal(of("page_view")[2].visitor_id, id, "a visitor is known again");
});

test("twenty events are sent at once, without asking the server first", async () => {
  pages = {"/": `<script src="SERVER/tracker.js"></script>`};
  const {page} = await open(chromium, `${shop.url}/`);
  const sent = page.waitForRequest(request => request.url().includes("/events/batch"));
  await page.evaluate(() => {
    for (let n = 0; n < 20; n += 1) floodgate("burst", {n});
  });
  const request = await sent;
  assert.equal(request.method(), "POST");
  assert.match(request.headers()["content-type"], /^text\/plain/);
  await until("twenty events", () => of("burst").length === 20);
  const times = of("burst").map(({timestamp}) => Date.parse(timestamp));
  assert.ok(times.every(time => Math.abs(time - Date.now()) < 60_000));
});

test("what is not sent yet goes with a beacon when the page is left or closed", async () => {
  pages = {"/": `<script src="SERVER/tracker.js"></script>`};
  for (const [name, leave] of [["left", page => page.goto("about:blank")], ["closed", page => page.close({runBeforeUnload: true})]]) {
    const {page} = await open(chromium, `${shop.url}/`);
    await page.evaluate(name => floodgate(name, {last: true}), name);
    await leave(page);
    await until(`the event of the page that was ${name}`, () => of(name).length === 1);
  }
});

test("who does not want to be followed is not, and nothing is kept of him", async () => {
  pages = {"/": `<script src="SERVER/tracker.js" data-auto></script>`};
  for (const [name, value] of [["globalPrivacyControl", true], ["doNotTrack", "1"]]) {
    const before = server.stored().length;
    const {page, context, seen} = await open(chromium, `${shop.url}/`);
    await until("a first page view", () => server.stored().length > before);
    await context.addInitScript(([name, value]) => Object.defineProperty(Navigator.prototype, name, {get: () => value}), [name, value]);
    await page.goto(`${shop.url}/`);
    seen.requests.length = 0;
    const count = server.stored().length;
    await page.evaluate(() => {
      for (let n = 0; n < 25; n += 1) floodgate("followed");
      dispatchEvent(new Event("pagehide"));
    });
    await page.goto("about:blank");
    assert.deepEqual(seen.requests.filter(url => url.includes("/events/")), []);
    await page.goto(`${shop.url}/`);
    assert.deepEqual(await storage(page), {}, name);
    assert.equal(server.stored().length, count);
  }
});

test("a refusal is sent again when the server says so, and what it has stored is not", async () => {
  const asked = [];
  const answers = [{status: 503, headers: {"Retry-After": "2"}}, {status: 429, headers: {"Retry-After": "1"}}, {status: 202}, {status: 503}, {status: 202}];
  const collector = await origin(({method}, body) => {
    asked.push({at: Date.now(), method, body});
    const {status, headers} = answers[asked.length - 1] ?? {status: 202};
    return {status, headers: {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Retry-After", ...headers}};
  });
  pages = {"/": `<script src="SERVER/tracker.js" data-endpoint="${collector.url}/" data-key="a+key"></script>`};
  const {page} = await open(chromium, `${shop.url}/`);
  const twenty = name => page.evaluate(name => {
    for (let n = 0; n < 20; n += 1) floodgate(name, {n});
  }, name);
  await twenty("first");
  await until("two more attempts", () => asked.length === 3);
  assert.equal(asked[0].body, asked[1].body);
  assert.equal(asked[1].body, asked[2].body);
  assert.ok(asked[1].at - asked[0].at >= 1_900, "Retry-After is in seconds, and is waited for");
  await twenty("second");
  await until("the second batch", () => asked.length === 4);
  await twenty("third");
  await until("the third batch", () => asked.length === 5);
  assert.match(asked[4].body, /third/, "a 503 without Retry-After means that the events are stored");
  await collector.close();
});

test("events wait for a server that is away, also from page to page, and arrive once", async () => {
  const away = await Server.start({METRICS_CORS_ORIGINS: shop.url});
  try {
    pages = Object.fromEntries(["/", "/next"].map(path => [path, `<script src="/own-tracker.js" data-endpoint="${away.url}/"></script>`]));
    const {page} = await open(chromium, `${shop.url}/`);
    await away.stop();
    const failed = page.waitForEvent("requestfailed");
    await page.evaluate(() => {
      for (let n = 0; n < 25; n += 1) floodgate("waited", {n});
    });
    await failed;
    // The answer to the failure is under way in the page; leaving it keeps what is not sent.
    await page.waitForTimeout(200);
    await page.goto(`${shop.url}/next`);
    await page.evaluate(() => floodgate("waited", {n: 25}));
    await away.startAgain();
    await until("all of them", () => away.stored().length >= 26);
    const numbers = away.stored().map(({metadata}) => metadata.n).sort((a, b) => a - b);
    assert.deepEqual(numbers, Array.from({length: 26}, (_, n) => n));
    assert.equal((await storage(page))["floodgate.q"], undefined);
  } finally {
    await away.remove();
  }
});

test("a page whose origin is not listed sends each event once, though it may read no answer", async () => {
  const strict = await Server.start({METRICS_CORS_ORIGINS: "https://other.example"});
  try {
    pages = {"/": `<script src="/own-tracker.js" data-endpoint="${strict.url}/"></script>`};
    const {page} = await open(chromium, `${shop.url}/`);
    for (const name of ["one", "two", "three"]) {
      await page.evaluate(name => {
        for (let n = 0; n < 20; n += 1) floodgate(name, {n});
      }, name);
      await until(`the events named ${name}`, () => strict.stored().some(({event}) => event === name));
    }
    assert.equal(strict.stored().length, 60);
  } finally {
    await strict.remove();
  }
});
