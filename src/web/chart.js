// Stacked bars over time, drawn on a canvas: one column for each bucket, read with the pointer or the arrow keys.

import {element, eventName, short, whole} from "./text.js";

const MARGIN = {top: 10, right: 8, bottom: 22, left: 46};
/** Columns at least this wide stand apart; narrower ones touch. */
const GAP_FROM = 6;
const STEPS_S = [60, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 432_000, 604_800];

/** Round values for an axis from 0 to at least `max`. */
export function ticks(max, wanted) {
  const raw = Math.max(1, max / wanted);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(value => value >= raw);
  return Array.from({length: Math.max(1, Math.ceil(max / step)) + 1}, (_, index) => index * step);
}

const day = new Intl.DateTimeFormat(undefined, {day: "numeric", month: "short"});
const dayUtc = new Intl.DateTimeFormat(undefined, {day: "numeric", month: "short", timeZone: "UTC"});
const time = new Intl.DateTimeFormat(undefined, {hour: "2-digit", minute: "2-digit", hourCycle: "h23"});

/** When a bucket begins, in words. */
export function bucketName(at, seconds) {
  if (seconds >= 86_400) return `${dayUtc.format(at)} UTC`;
  return `${day.format(at)}, ${time.format(at)}–${time.format(at + 1_000 * seconds)}`;
}

export class Chart {
  #data = null;
  #at = -1;
  #frame = 0;

  /** `spoken` gets what the arrow keys have found, for those who hear the page. */
  constructor(host, canvas, tip, spoken) {
    Object.assign(this, {host, canvas, tip, spoken});
    new ResizeObserver(() => this.#paintSoon()).observe(host);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#paintSoon());
    new MutationObserver(() => this.#paintSoon()).observe(document.documentElement, {attributeFilter: ["data-theme"]});
    host.addEventListener("pointermove", event => this.#point(event));
    host.addEventListener("pointerdown", event => this.#point(event));
    host.addEventListener("pointerleave", () => document.activeElement === host || this.#read(-1));
    host.addEventListener("blur", () => this.#read(-1));
    host.addEventListener("keydown", event => this.#key(event));
  }

  /**
   * Shows `{begin, seconds, columns, series: [{name, color, counts}]}`: `begin` in milliseconds, `color` the name of a
   * custom property, the first series at the bottom.
   */
  show(data) {
    const totals = Array.from({length: data.columns}, (_, column) => data.series.reduce((sum, {counts}) => sum + counts[column], 0));
    this.#data = {...data, totals, max: Math.max(0, ...totals)};
    if (this.#at >= data.columns) this.#at = -1;
    this.#paintSoon();
  }

  #paintSoon() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      if (this.#data) this.#paint();
    });
  }

  #layout() {
    const {clientWidth: width, clientHeight: height} = this.host;
    const scale = ticks(this.#data.max, Math.max(2, Math.floor(height / 60)));
    const top = Math.max(1, scale.at(-1));
    const inner = {width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom};
    return {
      width, height, scale, top, inner,
      x: column => MARGIN.left + column * inner.width / this.#data.columns,
      y: count => MARGIN.top + inner.height * (1 - count / top),
    };
  }

  #paint() {
    const layout = this.#layout();
    if (layout.inner.width < 40) return;
    const density = devicePixelRatio || 1;
    this.canvas.width = Math.round(layout.width * density);
    this.canvas.height = Math.round(layout.height * density);
    const pen = this.canvas.getContext("2d");
    pen.scale(density, density);
    const style = getComputedStyle(document.documentElement);
    const color = name => style.getPropertyValue(name).trim();
    pen.font = `11px ${getComputedStyle(this.host).fontFamily}`;
    this.#paintScales(pen, layout, color);
    this.#paintColumns(pen, layout, color);
    this.#showTip(layout);
  }

  #paintScales(pen, {scale, top, x, y, inner, height}, color) {
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const count of scale) {
      const at = Math.round(y(count)) + 0.5;
      pen.strokeStyle = color(count === 0 ? "--line-strong" : "--line");
      pen.beginPath();
      pen.moveTo(MARGIN.left, at);
      pen.lineTo(MARGIN.left + inner.width, at);
      pen.stroke();
      pen.fillStyle = color("--muted");
      pen.fillText(top < 10_000 ? whole(count) : short(count), MARGIN.left - 8, at);
    }
    pen.textBaseline = "alphabetic";
    const {begin, seconds, columns} = this.#data;
    const span = seconds * columns;
    const step = STEPS_S.find(value => value >= seconds && span / value <= inner.width / 84) ?? STEPS_S.at(-1);
    for (let column = 0; column < columns; column += 1) {
      const at = begin + 1_000 * seconds * column;
      // Ticks stand on round local times, but where buckets are days, which are UTC's.
      const local = seconds >= 86_400 ? at : at - 60_000 * new Date(at).getTimezoneOffset();
      if (local / 1_000 % step >= seconds) continue;
      const isDay = step >= 86_400 || local / 1_000 % 86_400 < seconds;
      const label = seconds >= 86_400 ? dayUtc.format(at) : isDay ? day.format(at) : time.format(at);
      const left = x(column);
      const half = pen.measureText(label).width / 2;
      pen.fillStyle = color("--line-strong");
      pen.fillRect(Math.round(left), height - MARGIN.bottom, 1, 4);
      if (left - half < MARGIN.left - 20 || left + half > MARGIN.left + inner.width + MARGIN.right) continue;
      pen.fillStyle = color("--muted");
      pen.textAlign = "center";
      pen.fillText(label, left, height - 5);
    }
  }

  #paintColumns(pen, {x, y}, color) {
    const {series, columns, begin, seconds} = this.#data;
    const fills = series.map(({color: name}) => color(name));
    for (let column = 0; column < columns; column += 1) {
      const width = x(column + 1) - x(column);
      const gap = width >= GAP_FROM ? 1 : 0;
      const [left, right] = gap ? [Math.round(x(column)) + gap, Math.round(x(column + 1))] : [x(column), x(column + 1)];
      // The last bucket is not over: it is drawn fainter, so that it is not taken for a fall.
      const isOpen = begin + 1_000 * seconds * (column + 1) > Date.now();
      pen.globalAlpha = (isOpen ? 0.55 : 1) * (this.#at >= 0 && this.#at !== column ? 0.45 : 1);
      let sum = 0;
      series.forEach(({counts}, index) => {
        if (!counts[column]) return;
        const bottom = y(sum);
        sum += counts[column];
        const top = y(sum);
        pen.fillStyle = fills[index];
        pen.fillRect(left, top, Math.max(0.5, right - left), Math.max(0.75, bottom - top - (gap && bottom - top > 3 ? 0.75 : 0)));
      });
    }
    pen.globalAlpha = 1;
  }

  #point(event) {
    if (!this.#data) return;
    const {inner} = this.#layout();
    const at = event.clientX - this.host.getBoundingClientRect().left - MARGIN.left;
    const column = Math.floor(at / inner.width * this.#data.columns);
    this.#read(column >= 0 && column < this.#data.columns ? column : -1);
  }

  #key(event) {
    if (!this.#data || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.#data.columns - 1;
    const from = this.#at < 0 ? last + 1 : this.#at;
    const jump = Math.max(1, Math.round(last / 10));
    const to = {ArrowLeft: from - 1, ArrowRight: this.#at < 0 ? 0 : from + 1, PageUp: from - jump, PageDown: from + jump, Home: 0, End: last, Escape: -1}[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#read(event.key === "Escape" ? -1 : Math.min(last, Math.max(0, to)));
    this.spoken.textContent = this.#at < 0 ? "" : this.#words();
  }

  #words() {
    const {begin, seconds, series, totals} = this.#data;
    const parts = series.filter(({counts}) => counts[this.#at]).map(({name, counts}) => `${name === null ? "others" : eventName(name)} ${whole(counts[this.#at])}`);
    return `${bucketName(begin + 1_000 * seconds * this.#at, seconds)}: ${whole(totals[this.#at])} events. ${parts.join(", ")}`;
  }

  #read(column) {
    if (column === this.#at) return;
    this.#at = column;
    this.#paintSoon();
  }

  #showTip({x, width}) {
    this.tip.hidden = this.#at < 0;
    if (this.#at < 0) return;
    const {begin, seconds, series, totals} = this.#data;
    const rows = series.filter(({counts}) => counts[this.#at]).reverse().map(({name, color, counts}) => {
      const swatch = element("span", {className: "swatch"});
      swatch.style.setProperty("--color", `var(${color})`);
      return element("li", {}, swatch, element("span", {className: "name", textContent: name === null ? "others" : eventName(name)}), element("span", {className: "num", textContent: whole(counts[this.#at])}));
    });
    const head = element("p", {}, element("span", {textContent: bucketName(begin + 1_000 * seconds * this.#at, seconds)}), element("strong", {className: "num", textContent: whole(totals[this.#at])}));
    this.tip.replaceChildren(head, element("ul", {}, ...rows));
    const middle = (x(this.#at) + x(this.#at + 1)) / 2;
    const left = middle > width / 2 ? middle - this.tip.offsetWidth - 14 : middle + 14;
    this.tip.style.transform = `translateX(${Math.round(Math.max(0, Math.min(left, width - this.tip.offsetWidth)))}px)`;
  }
}
