// The health of the engine, each second. Where a node of a fleet is chosen, the fleet's tile is about that one; the others are about
// the server that is asked, as ever.

import {HEALTH, get, poll} from "./api.js";
import {byId, bytes, clean, element, micros, percent, setText, whole} from "./text.js";
import {view} from "./view.js";

const MARKS = {ok: "●", warn: "▲", bad: "■", none: ""};
const WORDS = {ok: "", warn: "attention", bad: "trouble", none: ""};
/** Latencies above which something is slow, in microseconds: 99 of 100 appends, and of syncs. */
const APPEND_SLOW = 50_000;
const SYNC_SLOW = 1_000_000;

const level = (value, warn, bad) => value >= bad ? "bad" : value >= warn ? "warn" : "ok";

function engine({ok, state, log, journal}) {
  const error = log?.error ?? log?.sync_error ?? journal?.error ?? "";
  if (!ok) return {value: "Failing", note: error || "events cannot be stored", kind: "bad"};
  if (state === "recovering") return {value: "Recovering", note: "reading the log after the start", kind: "warn"};
  if (error) return {value: "Impaired", note: error, kind: "warn"};
  return {value: "Running", note: "events are stored", kind: "ok"};
}

function ring({journal}) {
  const frames = journal.frames;
  return {value: whole(frames), note: frames === 1 ? "frame waits for the writer" : "frames wait for the writer", kind: "none"};
}

function journal({journal: {used_bytes: used, bytes_max: max, durable}}) {
  const part = max ? used / max : 0;
  return {value: percent(used, max), note: `${bytes(used)} of ${bytes(max)}${durable ? "" : ", in memory only"}`, kind: level(part, 0.5, 0.9), part};
}

function latency(figures, slow) {
  if (typeof figures?.p99 !== "number") return {value: "–", note: "none in the last half minute", kind: "none"};
  return {value: micros(figures.p99), note: `median ${micros(figures.p50)}, at most ${micros(figures.max)}`, kind: level(figures.p99, slow, 10 * slow)};
}

function disk({disk}) {
  if (!disk) return {value: "–", note: "not known", kind: "none"};
  const {free_bytes: free, total_bytes: total} = disk;
  const left = total ? free / total : 1;
  return {value: bytes(free), note: `${percent(free, total)} of ${bytes(total)} left`, kind: left < 0.03 ? "bad" : left < 0.1 ? "warn" : "ok", part: 1 - left};
}

function log({log, archive}) {
  const unsynced = Math.max(0, log.bytes - log.synced_bytes);
  const sealed = log.sealed_files ? `, ${whole(log.sealed_files)} sealed` : "";
  if (archive?.error) return {value: bytes(log.bytes), note: archive.error, kind: "warn"};
  return {value: bytes(log.bytes), note: `live file${sealed}; ${unsynced ? `${bytes(unsynced)} not synced` : "all synced"}`, kind: log.sync_error ? "bad" : "none"};
}

function connections({connections}, lag) {
  const behind = lag === null ? "" : lag < 4_096 ? "tail up to date" : `tail ${bytes(lag)} behind`;
  return {value: whole(connections ?? 0), note: behind || "open now", kind: lag > 1 << 20 ? "warn" : "none"};
}

function shipping({ship}) {
  const {lag_bytes: lag, lag_seconds: seconds, lost_files: lost, connected, error} = ship;
  const value = lag === null ? "–" : bytes(lag);
  if (lost) return {value, note: `${whole(lost)} ${lost === 1 ? "file was" : "files were"} gone before being shipped`, kind: "bad"};
  if (!connected) return {value, note: error ?? "connecting", kind: seconds > 60 ? "bad" : "warn"};
  return {value, note: seconds > 1 ? `behind by ${whole(seconds)} s` : "the stream is up to date", kind: level(seconds, 60, 3_600)};
}

function fleet({fleet}) {
  const {nodes, connected, error, gaps} = fleet;
  const chosen = view.node ? nodes.filter(({node}) => node === view.node) : nodes;
  const waiting = chosen.reduce((sum, node) => sum + node.waiting_messages, 0);
  const value = view.node ? clean(view.node) : `${whole(nodes.length)} ${nodes.length === 1 ? "node" : "nodes"}`;
  if (!connected) return {value, note: error ?? "connecting", kind: "warn"};
  if (gaps) return {value, note: `${whole(gaps)} ${gaps === 1 ? "gap" : "gaps"} in what they shipped`, kind: "bad"};
  if (view.node && !chosen.length) return {value, note: "has shipped nothing that is known here", kind: "warn"};
  return {value, note: waiting ? `${whole(waiting)} messages wait` : "up to date", kind: "ok"};
}

const tiles = new Map();

function tile(name, {value, note, kind, part}) {
  let made = tiles.get(name);
  if (!made) {
    const [mark, word, text, sub, meter] = ["mark", "hidden", "value num", "note", "meter"].map(className => element("span", {className}));
    mark.setAttribute("aria-hidden", "true");
    meter.setAttribute("aria-hidden", "true");
    const host = element("div", {}, element("dt", {textContent: name}), element("dd", {}, mark, text, word, meter, sub));
    byId("health").append(host);
    made = {host, mark, word, text, sub, meter};
    tiles.set(name, made);
  }
  made.host.dataset.kind = kind;
  setText(made.mark, MARKS[kind]);
  setText(made.word, WORDS[kind] && ` (${WORDS[kind]})`);
  setText(made.text, value);
  setText(made.sub, note);
  made.sub.title = note;
  made.meter.hidden = part === undefined;
  if (part !== undefined) made.meter.style.setProperty("--part", Math.min(1, part).toFixed(4));
}

function show(health, lag) {
  tile("Engine", engine(health));
  // The rest is for those who may read; those who may not are asked for a key by then.
  if (!health.journal) return;
  tile("Ring", ring(health));
  tile("Journal", journal(health));
  tile("Append, 99 %", latency(health.latency?.append_us, APPEND_SLOW));
  tile("Sync, 99 %", latency(health.latency?.fsync_us, SYNC_SLOW));
  tile("Log", log(health));
  tile("Disk free", disk(health));
  tile("Connections", connections(health, lag));
  if (health.ship) tile("To be shipped", shipping(health));
  if (health.fleet) tile("Fleet", fleet(health));
}

/** Each second: `told` gets what the server says, and `lagOf` is asked how far the tail is behind. */
export function startHealth(told, lagOf) {
  poll(async () => {
    const health = await get(HEALTH, {accept: [503]});
    show(health, health.log ? lagOf(health.log.bytes) : null);
    told(health);
  }, () => 1, error => tile("Engine", {value: "Unknown", note: error.sentence, kind: "warn"}));
}
