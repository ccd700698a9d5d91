// How figures and texts look, and how elements are made of them.
//
// Names and metadata of events come from anybody on the internet: they become text nodes and attributes, never markup.

const WHOLE = new Intl.NumberFormat(undefined, {maximumFractionDigits: 0});
const TENTHS = new Intl.NumberFormat(undefined, {minimumFractionDigits: 1, maximumFractionDigits: 1});
const COMPACT = new Intl.NumberFormat(undefined, {notation: "compact", maximumFractionDigits: 1});

// Characters that move or hide the text around them: control characters, and marks of direction and width.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;

export const whole = count => WHOLE.format(count);
export const short = count => COMPACT.format(count);
export const compact = count => Math.abs(count) < 10_000 ? whole(count) : short(count);

/** A rate: with a tenth as long as that says something. */
export const perSecond = rate => rate > 0 && rate < 10 ? TENTHS.format(rate) : WHOLE.format(rate);

/** A share in per cent. */
export function percent(part, all) {
  if (!all) return "–";
  const share = 100 * part / all;
  if (share > 0 && share < 0.1) return "< 0.1 %";
  return `${share === 0 || share === 100 ? WHOLE.format(share) : TENTHS.format(share)} %`;
}

/** Bytes in binary units. */
export function bytes(count) {
  let at = 0;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  while (count >= 1024 && at < units.length - 1) {
    count /= 1024;
    at += 1;
  }
  return `${at === 0 || count >= 100 ? WHOLE.format(count) : TENTHS.format(count)} ${units[at]}`;
}

/** A duration that was measured in microseconds. */
export function micros(count) {
  if (count < 1_000) return `${WHOLE.format(count)} µs`;
  if (count < 1_000_000) return `${(count < 100_000 ? TENTHS : WHOLE).format(count / 1_000)} ms`;
  return `${TENTHS.format(count / 1_000_000)} s`;
}

/** Text with a sign in the place of each character that would not be seen. */
export const clean = text => String(text).replace(UNSEEN, "\ufffd");

/** The name of an event as people read it. */
export const eventName = name => name === "__other__" ? "other names" : clean(name);

/**
 * Makes an element. `fields` are its properties; those of `data` and `aria` become attributes. Children are elements or text.
 */
export function element(tag, {data = {}, aria = {}, ...fields} = {}, ...children) {
  const made = Object.assign(document.createElement(tag), fields);
  Object.assign(made.dataset, data);
  for (const [name, value] of Object.entries(aria)) made.setAttribute(`aria-${name}`, value);
  made.append(...children);
  return made;
}

export const byId = id => document.getElementById(id);

/** Sets an element's text if it is another one, so that nothing is painted or announced anew for nothing. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Shows a sentence in the place of what is not there; without one, hides it. */
export function setState(target, sentence, kind = "") {
  setText(target, sentence ?? "");
  target.hidden = !sentence;
  target.dataset.kind = kind;
}

/** Fills a list of suggestions. */
export function suggest(list, texts) {
  const wanted = texts.join("\n");
  if (list.dataset.texts === wanted) return;
  list.dataset.texts = wanted;
  list.replaceChildren(...texts.map(value => element("option", {value})));
}

/** Parses JSON so that numbers can be written as they came, where the browser can do that: `1.10`, and all digits of long ones. */
export function parseExact(text) {
  if (!JSON.rawJSON) return JSON.parse(text);
  return JSON.parse(text, (_, value, {source}) => typeof value === "number" ? JSON.rawJSON(source) : value);
}

/** JSON text with line breaks and indents, every token spelled as it was: numbers keep all their digits. */
export function indentJson(text) {
  let out = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(Math.min(depth, 40))}`;
  for (const token of text.match(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g) ?? []) {
    const opens = token === "{" || token === "[";
    if (token === "}" || token === "]") {
      depth -= 1;
      out += /[[{]$/.test(out) ? token : line() + token;
    } else if (token === ",") {
      out += token + line();
    } else {
      out += token === ":" ? ": " : /[[{]$/.test(out) ? line() + token : token;
      if (opens) depth += 1;
    }
  }
  return out;
}

/** Time of day with milliseconds, and the date where it is not today. */
export function clock(date) {
  const two = value => String(value).padStart(2, "0");
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
  return date.toDateString() === new Date().toDateString() ? time : `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`;
}
