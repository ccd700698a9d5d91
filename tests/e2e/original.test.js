// What the service that this one replaces was held to, from a browser's network stack.

import assert from "node:assert/strict";
import {after, before, test} from "node:test";
import {Server} from "./support.js";

let server;
before(async () => {
  server = await Server.start();
});
after(() => server.remove());

test("three events posted are counted and shown, newest first", async () => {
  for (const event of ["page_view", "page_view", "click"]) {
    const body = JSON.stringify({visitor_id: "visitor-1", event, metadata: {path: "/"}});
    const answer = await fetch(`${server.url}/api/metrics/event`, {method: "POST", headers: {"Content-Type": "application/json"}, body});
    assert.equal(answer.status, 202);
    const {ok, stored, file} = await answer.json();
    assert.deepEqual([ok, stored, typeof file], [true, 1, "string"]);
  }
  const answer = await fetch(`${server.url}/api/metrics/behavior?limit=10`);
  assert.equal(answer.status, 200);
  const {total, by_event: byEvent, last_events: last, file_size_bytes: size} = await answer.json();
  assert.equal(total, 3);
  assert.deepEqual(byEvent, [{event: "page_view", count: 2}, {event: "click", count: 1}]);
  assert.deepEqual(last.map(({event}) => event), ["click", "page_view", "page_view"]);
  assert.deepEqual(Object.keys(last[0]), ["visitor_id", "event", "timestamp", "metadata", "user_agent"]);
  assert.ok(size > 0);
});

test("health says that events can be stored", async () => {
  const answer = await fetch(`${server.url}/api/metrics/behavior/health`);
  assert.equal(answer.status, 200);
  const {ok, ring_capacity: capacity, sink_exists: exists} = await answer.json();
  assert.deepEqual([ok, capacity, exists], [true, 500, true]);
});
