// The funnel: how many visitors did the chosen steps in this order, and whether groups of them differ.

import {Refused, get, poll} from "./api.js";
import {byId, clean, element, eventName, percent, setState, setText, whole} from "./text.js";
import {RANGES, STEPS_MAX, look, nodeWords, ofNode, view, watch} from "./view.js";

let asked = null;
let answer = null;
let words = "";
let baseline = 0;

/** Where the range begins; the recent window's is the time of its oldest event. */
async function beginning(signal) {
  if (view.over !== "recent") {
    words = RANGES[view.over].words;
    return new Date(Date.now() - 1_000 * RANGES[view.over].seconds).toISOString();
  }
  const {ring_capacity: capacity} = await get("api/metrics/behavior/health", {accept: [503], signal});
  const {last_events: events} = await get(`api/metrics/behavior?limit=${capacity}`, {signal});
  words = `the recent window of ${whole(events.length)} events`;
  return events.map(({timestamp}) => timestamp).reduce((least, time) => time < least ? time : least, new Date().toISOString());
}

async function load() {
  if (view.steps.length < 2) return show();
  asked = new AbortController();
  byId("funnel").classList.add("stale");
  const query = ofNode(new URLSearchParams(view.steps.map(step => ["step", step])));
  if (view.split) query.set("split", view.split);
  query.set("since", await beginning(asked.signal));
  query.set("until", new Date(Date.now() + 1_000).toISOString());
  answer = await get(`api/metrics/behavior/funnel?${query}`, {signal: asked.signal});
  baseline = Math.min(baseline, Math.max(0, (answer.split?.groups.length ?? 0) - 1));
  show();
}

function show() {
  byId("funnel").classList.remove("stale");
  const isReady = view.steps.length >= 2 && answer !== null;
  const sentence = view.steps.length < 2 ? "Choose two steps or more, in the order in which visitors take them." : answer?.steps[0].visitors === 0 ? `Nobody did the first step in ${words}${nodeWords()}.` : "";
  setState(byId("funnel-state"), sentence);
  byId("funnel").replaceChildren(...isReady && !sentence ? answer.steps.map(bar) : []);
  const isSplit = isReady && !sentence && answer.split !== null;
  byId("split-table").hidden = !isSplit;
  if (isSplit) byId("split-table").replaceChildren(table(answer.split), hint());
  else byId("split-table").replaceChildren();
  setText(byId("funnel-note"), isReady && !sentence ? `${percent(answer.steps.at(-1).visitors, answer.steps[0].visitors)} of ${whole(answer.steps[0].visitors)} visitors come through, in ${words}${nodeWords()}${answer.complete ? "" : "; part of the log could not be read"}` : "");
}

function bar({event, visitors}, index, steps) {
  const first = steps[0].visitors;
  const before = index ? steps[index - 1].visitors : visitors;
  const track = element("span", {className: "track", aria: {hidden: true}}, element("span", {className: "fill"}));
  track.firstChild.style.setProperty("--part", first ? (visitors / first).toFixed(4) : "0");
  track.style.setProperty("--before", first ? (before / first).toFixed(4) : "0");
  const lost = before - visitors;
  return element("li", {},
    element("span", {className: "name", textContent: `${index + 1}. ${eventName(event)}`}), track,
    element("span", {className: "num", textContent: whole(visitors)}),
    element("span", {className: "num share", textContent: percent(visitors, first)}),
    element("span", {className: "note", textContent: index === 0 ? "" : lost ? `${percent(visitors, before)} of the step before, ${whole(lost)} left` : "everybody of the step before"}));
}

/** Two-sided p of a difference between two proportions, with the pooled variance; `null` with too few to tell. */
export function twoProportions([a, all], [b, every]) {
  const pooled = (a + b) / (all + every);
  const expected = [all, every].flatMap(count => [count * pooled, count * (1 - pooled)]);
  if (!(Math.min(...expected) >= 5)) return null;
  const z = (a / all - b / every) / Math.sqrt(pooled * (1 - pooled) * (1 / all + 1 / every));
  return Math.min(1, complement(Math.abs(z) / Math.SQRT2));
}

/** The complementary error function, to seven digits (Abramowitz and Stegun, 7.1.26). */
function complement(x) {
  const t = 1 / (1 + 0.3275911 * x);
  return t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) * Math.exp(-x * x);
}

function verdict(group, base) {
  const [ours, theirs] = [group, base].map(({visitors}) => [visitors.at(-1), visitors[0]]);
  const points = 100 * (ours[0] / ours[1] - theirs[0] / theirs[1]);
  const p = twoProportions(ours, theirs);
  if (!ours[1] || !theirs[1] || p === null) return {text: "too few to tell", kind: "unclear"};
  const change = `${points >= 0 ? "+" : "−"}${Math.abs(points).toFixed(1)} points, p ${p < 0.001 ? "< 0.001" : `= ${p.toFixed(3)}`}`;
  if (p >= 0.05) return {text: `${change}: may be chance`, kind: "unclear"};
  return {text: `${change}: hardly chance`, kind: points > 0 ? "better" : "worse"};
}

function table({field, groups}) {
  const steps = answer.steps.map(({event}, index) => element("th", {scope: "col", className: "num", textContent: `${index + 1}. ${eventName(event)}`}));
  const head = element("tr", {}, element("th", {scope: "col", textContent: clean(field)}), ...steps,
    element("th", {scope: "col", className: "num", textContent: "Come through"}), element("th", {scope: "col", textContent: "Against the basis"}));
  const rows = groups.map((group, index) => {
    const {value, visitors} = group;
    const label = value === null ? "all others" : typeof value === "string" ? clean(value) : clean(JSON.stringify(value));
    const isBase = index === baseline;
    const choose = element("button", {type: "button", className: "base", textContent: label, title: "Compare the others with this one", aria: {pressed: isBase}, onclick: () => {
      baseline = index;
      show();
      byId("split-table").querySelectorAll("button")[index].focus();
    }});
    const outcome = isBase ? {text: "the basis", kind: "unclear"} : verdict(group, groups[baseline]);
    const part = visitors[0] ? visitors.at(-1) / visitors[0] : 0;
    const share = element("td", {className: "num meter"}, element("span", {textContent: percent(visitors.at(-1), visitors[0])}));
    share.style.setProperty("--part", part.toFixed(4));
    return element("tr", {}, element("th", {scope: "row"}, choose), ...visitors.map(count => element("td", {className: "num", textContent: whole(count)})),
      share, element("td", {className: "verdict", data: {kind: outcome.kind}, textContent: outcome.text}));
  });
  return element("table", {}, element("caption", {textContent: `Visitors by their first ${clean(field)}`}), element("thead", {}, head), element("tbody", {}, ...rows));
}

const hint = () => element("p", {className: "note", textContent: "Two-proportion z-test of the last step against the first, two-sided, for each group against the basis; it is not corrected for several groups, nor for looking often."});

function showSteps() {
  const items = view.steps.map((name, index) => {
    const label = eventName(name);
    const without = () => look({steps: view.steps.filter((_, at) => at !== index)});
    const earlier = () => look({steps: view.steps.map((step, at) => at === index - 1 ? name : at === index ? view.steps[index - 1] : step)});
    return element("li", {},
      element("span", {className: "chip"},
        index ? element("button", {type: "button", className: "move", textContent: "‹", title: "One step earlier", onclick: earlier, aria: {label: `${label}: one step earlier`}}) : "",
        element("span", {className: "name", textContent: label}),
        element("button", {type: "button", className: "cross", textContent: "×", title: "Take this step out", onclick: without, aria: {label: `${label}: take this step out`}})));
  });
  byId("steps").replaceChildren(...items);
  byId("step").hidden = view.steps.length >= STEPS_MAX;
  byId("split").value = view.split;
  byId("over").value = view.over;
}

function addStep() {
  const name = byId("step").value.trim();
  if (!name || view.steps.length >= STEPS_MAX) return;
  byId("step").value = "";
  look({steps: [...view.steps, name]});
}

export function startFunnel() {
  const reload = poll(load, () => 30, error => {
    byId("funnel").classList.remove("stale");
    if (error instanceof Refused) setState(byId("funnel-state"), error.sentence, "wrong");
  });
  byId("step-form").addEventListener("submit", event => {
    event.preventDefault();
    addStep();
  });
  byId("step").addEventListener("input", event => {
    if (event.inputType === "insertReplacementText" || event.inputType === undefined) addStep();
  });
  byId("split").addEventListener("change", ({target}) => look({split: target.value.trim()}));
  byId("over").addEventListener("change", ({target}) => look({over: target.value}));
  byId("funnel-button").addEventListener("click", reload);
  watch(changed => {
    if (!["node", "steps", "split", "over"].some(name => changed.has(name))) return;
    answer = null;
    showSteps();
    show();
    asked?.abort();
    reload();
  });
  showSteps();
  show();
}
