// The two big figures: how many events there are, and how many come, with the last two minutes behind them. Of all events, or of
// those of the node that is chosen.

import {byId, clean, compact, perSecond, setText, whole} from "./text.js";
import {nodeWords, view, watch} from "./view.js";

const SECONDS = 120;
/** The rate shown is that of so many milliseconds: long enough to be read, short enough to be now. */
const WINDOW_MS = 4_000;
/** After a longer silence of ours the time between is not known. An answer that takes a second is followed by a pause of ten, which is none. */
const GAP_MS = 15_000;

/** How a count has grown. */
class Course {
  #samples = [];
  /** Rates, one for each second, `null` where it is not known. */
  rates = [];

  /** Takes the count as of now. */
  take(count, now) {
    const last = this.#samples.at(-1);
    const seconds = last ? Math.round((now - last.at) / 1_000) : 0;
    // A count that falls is of another log.
    if (last && (count < last.count || now - last.at > GAP_MS)) {
      this.rates.push(...Array(Math.min(SECONDS, seconds)).fill(null));
      this.#samples = [];
    } else if (last && now > last.at) {
      const rate = 1_000 * (count - last.count) / (now - last.at);
      this.rates.push(...Array(Math.max(1, seconds)).fill(rate));
    }
    this.rates = this.rates.slice(-SECONDS);
    this.#samples.push({at: now, count});
    while (this.#samples.length > 2 && now - this.#samples[1].at >= WINDOW_MS) this.#samples.shift();
  }

  /** Events a second as of late, or `null`. */
  rate() {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    return first && last.at > first.at ? 1_000 * (last.count - first.count) / (last.at - first.at) : null;
  }
}

const all = new Course();
let ofNodes = new Map();

/** Takes how many events there are as of now: all of the log, and of each node those that have come since some time. */
export function takeCounts(count, nodes) {
  const now = performance.now();
  all.take(count, now);
  // Those that are not told any more are let go.
  ofNodes = new Map(nodes.map(({node}) => [node, ofNodes.get(node) ?? new Course()]));
  for (const {node, events} of nodes) ofNodes.get(node).take(events, now);
  if (!view.node) showTotal(count, "since the log began");
  show();
}

/** Shows how many events there are, and in what. */
export function showTotal(count, where) {
  setText(byId("total"), whole(count));
  byId("total").dataset.count = count;
  setText(byId("total-note"), where);
}

/** Nothing is known at the moment: what stands there is old. */
export function setStale(isStale) {
  for (const id of ["total", "rate", "spark"]) byId(id).classList.toggle("stale", isStale);
}

function show() {
  const course = view.node ? ofNodes.get(view.node) : all;
  const rate = course?.rate() ?? null;
  setText(byId("rate"), rate === null ? "–" : perSecond(rate));
  const title = view.node ? `${clean(view.node)} · Floodgate` : "Floodgate";
  document.title = rate ? `${compact(Math.round(rate))}/s · ${title}` : title;
  paint(course?.rates ?? []);
}

function paint(rates) {
  const known = rates.filter(rate => rate !== null);
  const peak = Math.max(1, ...known);
  const x = index => SECONDS - rates.length + index;
  const y = rate => 46 - 42 * rate / peak;
  let line = "";
  let area = "";
  let from = -1;
  rates.forEach((rate, index) => {
    if (rate === null) return;
    const isFirst = index === 0 || rates[index - 1] === null;
    if (isFirst) from = x(index);
    line += `${isFirst ? "M" : "L"}${x(index)} ${y(rate).toFixed(1)}`;
    area += `${isFirst ? `M${from} 48L` : "L"}${x(index)} ${y(rate).toFixed(1)}`;
    if (index === rates.length - 1 || rates[index + 1] === null) area += `L${x(index)} 48Z`;
  });
  const spark = byId("spark");
  spark.querySelector(".line").setAttribute("d", line);
  spark.querySelector(".area").setAttribute("d", area);
  const summit = known.length ? `peak ${perSecond(Math.max(...known))}/s` : "";
  setText(byId("spark-peak"), summit);
  spark.setAttribute("aria-label", `Events a second${nodeWords()} over the last two minutes, ${summit || "not known yet"}`);
  const mean = known.length ? known.reduce((sum, rate) => sum + rate, 0) / known.length : 0;
  setText(byId("rate-note"), known.length > 5 ? `${perSecond(mean)} on average here` : "now");
}

export function startFigures() {
  watch(changed => {
    if (!changed.has("node")) return;
    setText(byId("total"), "–");
    delete byId("total").dataset.count;
    setText(byId("total-note"), "counting");
    show();
  });
}
