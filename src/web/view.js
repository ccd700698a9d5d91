// What is looked at: node, range, events, the tail's text, the funnel. All of it stands in the address behind the `#`, so that a
// view can be shared, and the server never sees it.

import {clean} from "./text.js";

export const RANGES = {
  "15m": {seconds: 900, interval: "1m", every: 5, words: "the last 15 minutes"},
  "1h": {seconds: 3_600, interval: "1m", every: 5, words: "the last hour"},
  "24h": {seconds: 86_400, interval: "5m", every: 15, words: "the last 24 hours"},
  "7d": {seconds: 604_800, interval: "1h", every: 60, words: "the last 7 days"},
  "30d": {seconds: 2_592_000, interval: "1d", every: 120, words: "the last 30 days"},
};

/** Seconds of an interval. */
export const SECONDS = {"1m": 60, "5m": 300, "1h": 3_600, "1d": 86_400};

export const EVENTS_MAX = 10;
export const STEPS_MAX = 10;
const NAME_MAX = 64;

export const view = {node: "", range: "1h", events: [], text: "", steps: [], split: "", over: "24h"};
const watchers = new Set();

function names(parameters, name, max) {
  const found = parameters.getAll(name).map(value => value.trim()).filter(value => value && value.length <= NAME_MAX);
  return found.slice(0, max);
}

function read() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const range = parameters.get("range");
  view.node = (parameters.get("node") ?? "").trim().slice(0, NAME_MAX);
  const over = parameters.get("over");
  view.range = Object.hasOwn(RANGES, range ?? "") ? range : "1h";
  view.events = [...new Set(names(parameters, "event", EVENTS_MAX))];
  view.text = (parameters.get("text") ?? "").slice(0, 200);
  view.steps = names(parameters, "step", STEPS_MAX);
  view.split = (parameters.get("split") ?? "").slice(0, NAME_MAX);
  view.over = over === "recent" || Object.hasOwn(RANGES, over ?? "") ? over : "24h";
}

function write() {
  const parameters = new URLSearchParams();
  if (view.node) parameters.set("node", view.node);
  if (view.range !== "1h") parameters.set("range", view.range);
  for (const event of view.events) parameters.append("event", event);
  if (view.text) parameters.set("text", view.text);
  for (const step of view.steps) parameters.append("step", step);
  if (view.split) parameters.set("split", view.split);
  if (view.over !== "24h") parameters.set("over", view.over);
  const hash = parameters.toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

function tell(changed) {
  for (const watcher of watchers) watcher(changed);
}

/** Changes some members of the view and tells those who watch it which. */
export function look(change) {
  Object.assign(view, change);
  write();
  tell(new Set(Object.keys(change)));
}

/** Adds an event to the filter, or takes it out. */
export function toggleEvent(name) {
  const without = view.events.filter(event => event !== name);
  const events = without.length < view.events.length ? without : [...view.events, name].slice(-EVENTS_MAX);
  look({events});
}

/** The range as the server is asked for it: as many whole buckets as it has, the one that is not over included. */
export function bounds() {
  const {seconds, interval} = RANGES[view.range];
  const step = 1_000 * SECONDS[interval];
  const until = (Math.floor(Date.now() / step) + 1) * step;
  return {since: new Date(until - 1_000 * seconds).toISOString(), until: new Date(until).toISOString()};
}

/** Adds the node to what is asked, if one is chosen. */
export function ofNode(parameters) {
  if (view.node) parameters.set("node", view.node);
  return parameters;
}

/** The node as part of a sentence, if one is chosen. */
export const nodeWords = () => view.node ? ` from ${clean(view.node)}` : "";

/** Calls with the set of the members that have changed. */
export function watch(watcher) {
  watchers.add(watcher);
}

read();
addEventListener("hashchange", () => {
  read();
  tell(new Set(Object.keys(view)));
});

// A colour for each series, which a name keeps as long as it is among those shown.
const COLORS = 10;
const colors = new Map();

/** Gives each of these names a colour of its own, and tells those who watch of `colors` when any has changed. */
export function assignColors(shown) {
  const before = colors.size;
  let isChanged = false;
  for (const name of shown.slice(0, COLORS)) {
    if (colors.has(name)) continue;
    const used = new Set(colors.values());
    let free = Array.from({length: COLORS}, (_, index) => index).find(index => !used.has(index));
    if (free === undefined) {
      const [gone] = [...colors.keys()].filter(known => !shown.includes(known));
      free = colors.get(gone);
      colors.delete(gone);
      isChanged = true;
    }
    colors.set(name, free);
  }
  if (isChanged || colors.size !== before) tell(new Set(["colors"]));
}

/** The name of the colour of that event. */
export const colorOf = name => colors.has(name) ? `--c${colors.get(name)}` : "--rest";
