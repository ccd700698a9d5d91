// The two big figures: how many events there are, and how many come, with the last two minutes behind them.

import {byId, compact, perSecond, setText, whole} from "./text.js";

const SECONDS = 120;
/** The rate shown is that of so many milliseconds: long enough to be read, short enough to be now. */
const WINDOW_MS = 4_000;
/** After a longer silence of ours the time between is not known. */
const GAP_MS = 5_000;

let samples = [];
/** Rates, one for each second, `null` where it is not known. */
let rates = [];

/** Takes the lifetime count as of now. */
export function showCount(count) {
  const now = performance.now();
  const last = samples.at(-1);
  // A count that falls is of another log.
  if (last && (count < last.count || now - last.at > GAP_MS)) {
    const missed = Math.min(SECONDS, Math.round((now - last.at) / 1_000));
    rates.push(...Array(missed).fill(null));
    samples = [];
  } else if (last && now > last.at) {
    const rate = 1_000 * (count - last.count) / (now - last.at);
    rates.push(...Array(Math.max(1, Math.round((now - last.at) / 1_000))).fill(rate));
  }
  rates = rates.slice(-SECONDS);
  samples.push({at: now, count});
  while (samples.length > 2 && now - samples[1].at >= WINDOW_MS) samples.shift();
  setText(byId("total"), whole(count));
  byId("total").dataset.count = count;
  const [first] = samples;
  const rate = now > first.at ? 1_000 * (count - first.count) / (now - first.at) : null;
  setText(byId("rate"), rate === null ? "–" : perSecond(rate));
  document.title = rate ? `${compact(Math.round(rate))}/s · Floodgate` : "Floodgate";
  paint();
}

/** Nothing is known at the moment: what stands there is old. */
export function setStale(isStale) {
  for (const id of ["total", "rate", "spark"]) byId(id).classList.toggle("stale", isStale);
}

function paint() {
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
  spark.setAttribute("aria-label", `Events a second over the last two minutes, ${summit || "not known yet"}`);
  const mean = known.length ? known.reduce((sum, rate) => sum + rate, 0) / known.length : 0;
  setText(byId("rate-note"), known.length > 5 ? `${perSecond(mean)} on average here` : "now");
}
