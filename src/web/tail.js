// The live tail: the newest events as they are stored, at most 500 of them, newest first.
//
// However fast they come, the page paints four times a second and no more than 400 rows a second beyond a first burst: what
// is more than an eye can follow is counted and left out. It holds still while it is paused, scrolled, or has the keyboard's focus.

import {connection, get} from "./api.js";
import {follow} from "./stream.js";
import {byId, bytes, clean, clock, compact, element, eventName, indentJson, parseExact, perSecond, setState, setText, suggest, whole} from "./text.js";
import {bounds, colorOf, look, nodeWords, ofNode, view, watch} from "./view.js";

const KEPT = 500;
const PAINT_MS = 250;
const PAINTED_A_SECOND = 400;
const BEFORE = 100;
const FIELDS_MAX = 50;
const META_MAX = 160;
/** A tail that is behind by more than this goes on with what is new: it is there to look at, not to count by. */
const BEHIND_MAX = 16 << 20;
/** A hidden page lets go of the stream after this time. */
const HIDDEN_MS = 30_000;

const list = byId("tail");
const fields = new Set();
/** Stored lines as they came, newest last, whatever the text filter says. */
let lines = [];
/** Lines that match and are not shown yet, newest last; how many of them were too many to keep. */
let waiting = [];
let waitingLost = 0;
let isPaused = false;
let state = "opening";
let stop = null;
let position = null;
/** How many rows may be painted now, and when that was reckoned. */
let budget = {rows: KEPT, at: performance.now()};
let sawSince = {count: 0, left: 0, at: performance.now()};

const matches = line => !view.text || line.toLowerCase().includes(view.text.toLowerCase());

function take(line) {
  sawSince.count += 1;
  lines.push(line);
  if (lines.length > 2 * KEPT) lines = lines.slice(-KEPT);
  if (matches(line)) put(line);
}

function put(line) {
  waiting.push(line);
  if (waiting.length <= 2 * KEPT) return;
  waitingLost += waiting.length - KEPT;
  waiting = waiting.slice(-KEPT);
}

const message = {
  open(isResumed) {
    state = "open";
    if (!isResumed) before();
  },
  message({event, data, id}) {
    position = id;
    if (data === null) return undefined;
    if (event === "gap") return put(gapLine(data));
    return event === "" || event === "message" ? take(data) : undefined;
  },
  close(sentence) {
    state = sentence || "closed";
  },
};

/** A gap is a line too: one that is no JSON. */
function gapLine(data) {
  try {
    const {skipped} = JSON.parse(data);
    if (typeof skipped === "number") return `\u0000${whole(skipped)} events are missing here`;
  } catch { /* Told without a number. */ }
  return "\u0000Events are missing here; how many is not known";
}

const keyOf = ({visitor_id: visitor, event, timestamp, metadata}) => JSON.stringify([visitor, event, timestamp, metadata]);

/** What the tail asks for. */
const asked = () => ofNode(new URLSearchParams(view.events.map(name => ["event_type", name])));

/** What was stored before the stream began, so that a tail does not begin empty: of a node as far back as the range goes, as no more is read for it. */
async function before() {
  const wanted = asked();
  const query = new URLSearchParams([["limit", BEFORE], ...wanted]);
  if (view.node) query.set("since", bounds().since);
  let answer;
  try {
    answer = await get(`api/metrics/behavior?${query}`, {parse: parseExact});
  } catch {
    return;
  }
  // Something else is looked at by now.
  if (`${asked()}` !== `${wanted}`) return;
  const streamed = new Set(lines.map(line => parse(line)).filter(Boolean).map(keyOf));
  const older = answer.last_events.filter(event => !streamed.has(keyOf(event))).map(event => JSON.stringify(event)).reverse();
  lines = [...older, ...lines].slice(-KEPT);
  waiting = [...older.filter(matches), ...waiting].slice(-KEPT);
  paint(KEPT);
}

function parse(line) {
  try {
    const event = parseExact(line);
    return event !== null && typeof event === "object" && typeof event.event === "string" ? event : null;
  } catch {
    return null;
  }
}

function summary({metadata, node}) {
  // Which node of a fleet it is from, where that is not plain anyway.
  let text = typeof node === "string" && !view.node ? `node=${node}` : "";
  if (metadata === null || typeof metadata !== "object") return clean(text);
  for (const [name, value] of Object.entries(metadata)) {
    if (fields.size < FIELDS_MAX && name.length <= 64) fields.add(name);
    if (text.length > META_MAX) break;
    text += `${text && "  "}${name}=${typeof value === "string" ? value : JSON.stringify(value)}`;
  }
  return clean(text.length > META_MAX ? `${text.slice(0, META_MAX)}…` : text);
}

function row(line) {
  if (line.startsWith("\u0000")) return element("li", {className: "gap", textContent: line.slice(1)});
  const event = parse(line);
  if (!event) return null;
  const when = new Date(event.timestamp);
  const swatch = element("span", {className: "swatch"});
  swatch.style.setProperty("--color", `var(${colorOf(event.event)})`);
  const button = element("button", {type: "button", tabIndex: -1, aria: {expanded: false}},
    element("time", {className: "num", dateTime: event.timestamp, textContent: Number.isNaN(when.getTime()) ? clean(event.timestamp) : clock(when)}),
    swatch, element("span", {className: "name", textContent: eventName(event.event)}),
    element("span", {className: "who", textContent: clean(event.visitor_id)}),
    element("span", {className: "meta", textContent: summary(event)}));
  button.addEventListener("click", () => {
    const isOpen = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", !isOpen);
    if (isOpen) button.nextElementSibling.remove();
    else button.after(element("pre", {textContent: indentJson(clean(line))}));
  });
  return element("li", {data: {event: event.event}}, button);
}

function recolor() {
  for (const item of list.children) item.querySelector(".swatch")?.style.setProperty("--color", `var(${colorOf(item.dataset.event)})`);
}

const isHeld = () => isPaused || list.scrollTop > 4 || list.contains(document.activeElement);

function affordable() {
  const now = performance.now();
  budget = {rows: Math.min(KEPT, budget.rows + PAINTED_A_SECOND * (now - budget.at) / 1_000), at: now};
  return Math.floor(budget.rows);
}

/** Shows what is waiting, or as much of it as may be painted now. */
function paint(most = affordable()) {
  if (waiting.length && !isHeld()) {
    const left = Math.max(0, waiting.length - most);
    budget.rows = Math.max(0, budget.rows - waiting.length + left);
    sawSince.left += left + waitingLost;
    const rows = waiting.slice(left).map(row).filter(Boolean).reverse();
    waiting = [];
    waitingLost = 0;
    list.prepend(...rows);
    while (list.childElementCount > KEPT) list.lastElementChild.remove();
    suggest(byId("fields"), [...fields]);
    rove(list.querySelector("button"));
  }
  showNew();
}

function showNew() {
  const button = byId("tail-new");
  button.hidden = waiting.length === 0;
  if (!button.hidden) setText(button, `${waitingLost ? `More than ${whole(KEPT)}` : whole(waiting.length)} new – show them`);
  setState(byId("tail-state"), list.childElementCount ? "" : view.text ? "No line contains that so far." : `Waiting for events${nodeWords()}.`);
}

function showNote() {
  const seconds = (performance.now() - sawSince.at) / 1_000;
  const rate = sawSince.count / seconds;
  const isMuch = sawSince.left > 0;
  sawSince = {count: 0, left: 0, at: performance.now()};
  let note = `${perSecond(rate)}/s`;
  if (isPaused) note = "paused";
  else if (state === "opening") note = "opening";
  else if (state !== "open") note = state === "closed" ? "interrupted, going on soon" : state;
  else if (isMuch) note = `${compact(Math.round(rate))}/s, a sample is shown`;
  else if (isHeld()) note = "holds still while you read";
  setText(byId("tail-note"), note);
}

/** One row at a time can be reached with Tab; arrow keys go on from there. */
function rove(button) {
  if (!button) return;
  list.querySelector('button[tabindex="0"]')?.setAttribute("tabindex", "-1");
  button.tabIndex = 0;
}

function key(event) {
  const rows = [...list.querySelectorAll(":scope > li > button")];
  const at = rows.indexOf(document.activeElement);
  const to = {ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1}[event.key];
  if (event.key === "Escape") {
    document.activeElement.blur();
    list.scrollTop = 0;
  }
  if (to === undefined || !rows[to]) return;
  event.preventDefault();
  rove(rows[to]);
  rows[to].focus();
}

function begin(last) {
  stop?.();
  state = "opening";
  if (last === null) {
    lines = [];
    waiting = [];
    waitingLost = 0;
    list.replaceChildren();
    position = null;
  }
  stop = follow(`${asked()}`, message, last);
}

function rebuild() {
  list.replaceChildren();
  waitingLost = 0;
  waiting = lines.filter(matches).slice(-KEPT);
  paint(KEPT);
}

export function togglePause() {
  isPaused = !isPaused;
  byId("pause").setAttribute("aria-pressed", isPaused);
  setText(byId("pause"), isPaused ? "Go on" : "Pause");
  paint();
  showNote();
}

function release() {
  if (isPaused) togglePause();
  list.scrollTop = 0;
  if (list.contains(document.activeElement)) document.activeElement.blur();
  paint(KEPT);
}

/**
 * How far the tail is behind the end of the live file, in bytes, where that can be told: with a filter it sees only
 * some of the positions. Too far behind it lets go of what it has not seen.
 */
export function tailLag(liveBytes) {
  if (view.events.length || view.node || state !== "open" || position === null) return null;
  const offset = Number(position.split(":")[1]);
  if (!(offset <= liveBytes)) return null;
  if (liveBytes - offset > BEHIND_MAX) {
    const skipped = bytes(liveBytes - offset);
    begin(null);
    put(`\u0000The tail was ${skipped} behind and went on with the newest events`);
  }
  return liveBytes - offset;
}

export function startTail() {
  let hiddenSince = 0;
  let letGo = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(letGo);
    if (document.hidden) {
      hiddenSince = Date.now();
      letGo = setTimeout(() => {
        stop?.();
        stop = null;
      }, HIDDEN_MS);
    } else if (stop === null) {
      begin(Date.now() - hiddenSince > 4 * HIDDEN_MS ? null : position);
    }
  });
  byId("pause").addEventListener("click", togglePause);
  byId("tail-new").addEventListener("click", release);
  byId("tail-search").value = view.text;
  byId("tail-search").addEventListener("input", ({target}) => look({text: target.value}));
  list.addEventListener("keydown", key);
  list.addEventListener("focusin", ({target}) => rove(target.closest("li > button")));
  watch(changed => {
    if (changed.has("colors")) recolor();
    if (changed.has("events") || changed.has("node")) begin(null);
    if (changed.has("text")) {
      if (byId("tail-search").value !== view.text) byId("tail-search").value = view.text;
      rebuild();
    }
  });
  setInterval(() => document.hidden || paint(), PAINT_MS);
  setInterval(() => document.hidden || connection.state !== "live" || showNote(), 2_000);
  begin(null);
}
