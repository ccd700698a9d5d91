// The ranking of events over the life of the log, or of a node's over the range, and the names that fields suggest.

import {get, poll} from "./api.js";
import {showTotal} from "./figures.js";
import {byId, element, eventName, percent, setState, setText, suggest, whole} from "./text.js";
import {RANGES, bounds, colorOf, nodeWords, ofNode, toggleEvent, view, watch} from "./view.js";

const SHORT = 10;
const LONG = 200;
const SUGGESTED = 200;
/** With more names than this an answer is long, and asked for less often. */
const MANY = 500;

let events = [];
let total = 0;
let isLong = false;
let asked = null;

async function load() {
  asked = new AbortController();
  const query = ofNode(new URLSearchParams({limit: 1}));
  // The log is counted as a whole; for what a node sent lines are read, so as many as the chart has.
  if (view.node) query.set("since", bounds().since);
  const answer = await get(`api/metrics/behavior?${query}`, {signal: asked.signal});
  if (view.node) showTotal(answer.total, `in ${RANGES[view.range].words}${nodeWords()}`);
  events = answer.by_event.map(({event, count}) => ({event, count})).sort((a, b) => b.count - a.count);
  total = answer.total;
  suggest(byId("names"), events.slice(0, SUGGESTED).map(({event}) => event).filter(event => event !== "__other__"));
  show();
}

function show() {
  const wanted = byId("ranking-search").value.trim().toLowerCase();
  const found = wanted ? events.filter(({event}) => event.toLowerCase().includes(wanted)) : events;
  const shown = found.slice(0, isLong ? LONG : SHORT);
  const most = shown[0]?.count ?? 1;
  const list = byId("ranking");
  const focused = document.activeElement?.closest?.("#ranking li")?.dataset.event;
  // Elements are used again by place: the list is as long as it was, mostly.
  while (list.children.length > shown.length) list.lastElementChild.remove();
  while (list.children.length < shown.length) list.append(row());
  shown.forEach(({event, count}, index) => fill(list.children[index], event, count, most));
  if (focused !== undefined) [...list.children].find(item => item.dataset.event === focused)?.firstElementChild.focus();
  const more = byId("ranking-more");
  more.hidden = found.length <= SHORT;
  setText(more, isLong ? "Show fewer" : `Show ${whole(Math.min(LONG, found.length) - SHORT)} more`);
  setText(byId("ranking-note"), events.length ? `${whole(events.length)} ${events.length === 1 ? "name" : "names"}, ${view.node ? `in ${RANGES[view.range].words}` : "all time"}` : "");
  setState(byId("ranking-state"), events.length === 0 ? (view.node ? `No events in ${RANGES[view.range].words}${nodeWords()}.` : "No events yet.") : found.length === 0 ? "No name contains that." : "");
}

function row() {
  const parts = ["swatch", "name", "bar", "num", "share"].map(className => element("span", {className}));
  parts[2].setAttribute("aria-hidden", "true");
  parts[3].classList.add("num");
  parts[4].classList.add("num");
  const button = element("button", {type: "button"}, ...parts);
  button.addEventListener("click", () => toggleEvent(button.parentElement.dataset.event));
  return element("li", {}, button);
}

function fill(item, event, count, most) {
  const button = item.firstElementChild;
  const [swatch, name, bar, number, share] = button.children;
  item.dataset.event = event;
  swatch.style.setProperty("--color", `var(${colorOf(event)})`);
  bar.style.setProperty("--color", `var(${colorOf(event)})`);
  bar.style.setProperty("--part", (count / most).toFixed(4));
  setText(name, eventName(event));
  setText(number, whole(count));
  setText(share, percent(count, total));
  const isOn = view.events.includes(event);
  button.setAttribute("aria-pressed", isOn);
  button.title = isOn ? "Take it out of the filter" : "Add it to the filter";
  // What is counted together cannot be asked for.
  button.disabled = event === "__other__";
}

export function startRanking() {
  const period = () => view.node ? RANGES[view.range].every : events.length > MANY ? 15 : 2;
  const reload = poll(load, period, error => setState(byId("ranking-state"), error.sentence, "wrong"));
  byId("ranking-search").addEventListener("input", show);
  byId("ranking-more").addEventListener("click", () => {
    isLong = !isLong;
    show();
  });
  watch(changed => {
    if (changed.has("events") || changed.has("colors")) show();
    if (!changed.has("node") && !(view.node && changed.has("range"))) return;
    asked?.abort();
    reload();
  });
}
