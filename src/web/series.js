// Events over time: the range, the filter, and what the chart, its table and its legend show.

import {get, poll} from "./api.js";
import {Chart, bucketName} from "./chart.js";
import {byId, compact, element, eventName, setState, setText, whole} from "./text.js";
import {EVENTS_MAX, RANGES, SECONDS, assignColors, bounds, colorOf, look, nodeWords, ofNode, toggleEvent, view, watch} from "./view.js";

const chart = new Chart(byId("chart"), byId("canvas"), byId("tip"), byId("chart-spoken"));
let shown = null;
let asked = null;

function swatch(color) {
  const made = element("span", {className: "swatch"});
  made.style.setProperty("--color", `var(${color})`);
  return made;
}

function query() {
  const parameters = ofNode(new URLSearchParams({interval: RANGES[view.range].interval, ...bounds()}));
  for (const event of view.events) parameters.append("event", event);
  return `api/metrics/behavior/timeseries?${parameters}`;
}

async function load() {
  asked = new AbortController();
  const range = view.range;
  byId("chart").classList.toggle("stale", shown?.range !== range);
  const answer = await get(query(), {signal: asked.signal});
  show(range, answer);
}

function show(range, answer) {
  assignColors(answer.series.map(({event}) => event));
  const series = answer.series.map(({event, total, counts}) => ({name: event, total, counts, color: colorOf(event)}));
  if (answer.rest) series.push({name: null, total: answer.rest.total, counts: answer.rest.counts, color: "--rest", names: answer.rest.names});
  shown = {range, series, total: answer.total, begin: Date.parse(answer.since), seconds: SECONDS[answer.interval], columns: answer.buckets};
  chart.show(shown);
  byId("chart").classList.remove("stale");
  byId("chart").dataset.total = answer.total;
  const sum = shown.series.reduce((sum, {total}) => sum + total, 0);
  setState(byId("chart-state"), sum === 0 ? `No ${view.events.length ? "such events" : "events"} in ${RANGES[range].words}${nodeWords()}.` : "");
  showNote();
  showLegend();
  showTable();
}

function showNote() {
  const {series, begin, seconds, columns} = shown;
  let peak = {count: 0, column: 0};
  let total = 0;
  for (let column = 0; column < columns; column += 1) {
    const count = series.reduce((sum, {counts}) => sum + counts[column], 0);
    total += count;
    if (count > peak.count) peak = {count, column};
  }
  const summit = peak.count ? `, at most ${whole(peak.count)} in ${{60: "a minute", 300: "5 minutes", 3600: "an hour", 86400: "a day"}[seconds]} (${bucketName(begin + 1_000 * seconds * peak.column, seconds)})` : "";
  setText(byId("series-note"), `${whole(total)} in ${RANGES[shown.range].words}${nodeWords()}${summit}`);
}

function showLegend() {
  const items = shown.series.map(({name, total, color, names}) => {
    const label = name === null ? `${whole(names)} more` : eventName(name);
    const parts = [swatch(color), element("span", {className: "name", textContent: label}), element("span", {className: "num", textContent: compact(total)})];
    if (name === null) return element("li", {}, element("span", {className: "entry"}, ...parts));
    const isOn = view.events.includes(name);
    const title = isOn ? `Take ${label} out of the filter` : `Show ${label} only`;
    return element("li", {}, element("button", {type: "button", className: "entry", title, onclick: () => toggleEvent(name), aria: {pressed: isOn}}, ...parts));
  });
  replaceKeepingFocus(byId("legend"), items);
}

/** A list is made anew each time; whoever stands on one of its buttons is not to be thrown out. */
function replaceKeepingFocus(list, items) {
  const at = [...list.children].findIndex(item => item.contains(document.activeElement));
  list.replaceChildren(...items);
  if (at >= 0) list.children[Math.min(at, items.length - 1)]?.querySelector("button")?.focus();
}

function showTable() {
  const host = byId("table");
  if (host.hidden) return;
  const {series, begin, seconds, columns} = shown;
  const titles = ["From", ...series.map(({name, names}) => name === null ? `${names} more` : eventName(name)), "All"];
  const head = element("tr", {}, ...titles.map(textContent => element("th", {scope: "col", textContent})));
  const rows = Array.from({length: columns}, (_, index) => {
    const column = columns - 1 - index;
    const counts = series.map(({counts}) => counts[column]);
    const cells = [...counts, counts.reduce((sum, count) => sum + count, 0)];
    return element("tr", {}, element("th", {scope: "row", textContent: bucketName(begin + 1_000 * seconds * column, seconds)}), ...cells.map(count => element("td", {className: "num", textContent: whole(count)})));
  });
  const caption = element("caption", {textContent: `Events in ${RANGES[shown.range].words}${nodeWords()}, newest first`});
  const {scrollTop, scrollLeft} = host;
  host.replaceChildren(element("table", {}, caption, element("thead", {}, head), element("tbody", {}, ...rows)));
  Object.assign(host, {scrollTop, scrollLeft});
}

export function toggleTable() {
  const isTable = byId("table").hidden;
  byId("table").hidden = !isTable;
  byId("chart").hidden = isTable;
  byId("table-button").setAttribute("aria-pressed", isTable);
  if (shown) showTable();
}

function showView() {
  for (const button of byId("ranges").children) button.setAttribute("aria-pressed", button.dataset.range === view.range);
  const chips = view.events.map(name => {
    const label = eventName(name);
    return element("li", {}, element("button", {type: "button", className: "chip", title: `Take ${label} out of the filter`, onclick: () => toggleEvent(name), aria: {label: `${label}: take it out of the filter`}},
      swatch(colorOf(name)), element("span", {className: "name", textContent: label}), element("span", {className: "cross", textContent: "×", aria: {hidden: true}})));
  });
  byId("chips").replaceChildren(...chips);
  byId("clear").hidden = chips.length === 0;
  byId("filter").placeholder = chips.length ? "add another" : "all – add a name";
}

function addFilter() {
  const name = byId("filter").value.trim();
  if (!name) return;
  byId("filter").value = "";
  if (!view.events.includes(name)) look({events: [...view.events, name].slice(-EVENTS_MAX)});
}

export function startSeries() {
  const reload = poll(load, () => RANGES[view.range].every, error => {
    byId("chart").classList.remove("stale");
    if (shown) setText(byId("series-note"), error.sentence);
    else setState(byId("chart-state"), error.sentence, "wrong");
  });
  byId("ranges").addEventListener("click", ({target}) => target.dataset.range && look({range: target.dataset.range}));
  byId("table-button").addEventListener("click", toggleTable);
  byId("clear").addEventListener("click", () => look({events: []}));
  byId("filter-form").addEventListener("submit", event => {
    event.preventDefault();
    addFilter();
  });
  // Choosing a suggestion is one act: it need not be confirmed.
  byId("filter").addEventListener("input", event => {
    if (event.inputType === "insertReplacementText" || event.inputType === undefined) addFilter();
  });
  watch(changed => {
    if (changed.has("colors")) showView();
    if (!["node", "range", "events"].some(name => changed.has(name))) return;
    showView();
    if (shown) showLegend();
    // What is under way is not wanted any more.
    asked?.abort();
    reload();
  });
  showView();
}
