// The way to the server: requests with the read key, one notion of whether it is reachable, and polling that stops when nobody
// looks.
//
// States: `connecting`, `live`, `lost` (it does not answer: tried again with growing pauses), `locked` (it asks for a key).

const KEY_NAME = "floodgate.read-key";
const HEALTH = "api/metrics/behavior/health";
const PATIENCE_MS = 20_000;
const PAUSE_MAX_MS = 15_000;

/** An answer that is none: `sentence` says why, `wait` how many milliseconds to let pass. */
export class Refused extends Error {
  constructor(status, sentence, wait = 0) {
    super(sentence);
    Object.assign(this, {status, sentence, wait});
  }
}

/** The server does not answer, or wants a key: everything rests until that has changed. */
export class Unreachable extends Error {}

export const connection = {state: "connecting", sentence: "", retryAt: 0};
const watchers = new Set();
const wakers = new Set();
let key = stored("sessionStorage") ?? stored("localStorage");
let attempts = 0;
let timer = 0;

function stored(kind) {
  try {
    return window[kind].getItem(KEY_NAME);
  } catch {
    return null;
  }
}

function store(kind, value) {
  try {
    if (value === null) window[kind].removeItem(KEY_NAME);
    else window[kind].setItem(KEY_NAME, value);
  } catch { /* Storage is switched off: the key lives as long as the page. */ }
}

function become(state, sentence = "") {
  const changed = connection.state !== state;
  Object.assign(connection, {state, sentence});
  for (const watcher of watchers) watcher(changed);
  if (state === "live" && changed) wake();
}

/** Calls when the state of the connection changes or is to be shown anew. */
export function watchConnection(watcher) {
  watchers.add(watcher);
}

function lost(sentence) {
  if (connection.state === "locked") return;
  if (connection.state === "lost" && connection.retryAt > Date.now()) return;
  const pause = Math.min(PAUSE_MAX_MS, 1_000 * 2 ** Math.min(attempts, 6)) * (0.8 + 0.4 * Math.random());
  attempts += 1;
  connection.retryAt = Date.now() + pause;
  clearTimeout(timer);
  timer = setTimeout(tryNow, pause);
  become("lost", sentence);
}

/** Asks whether the server is there. */
export async function tryNow() {
  clearTimeout(timer);
  connection.retryAt = 0;
  try {
    await get(HEALTH, {accept: [503]});
  } catch (error) {
    if (error instanceof Refused && connection.state !== "locked") lost(error.sentence);
  }
}

export const hasKey = () => key !== null;
export const headers = () => key === null ? {} : {"X-Api-Key": key};

/** The read key is forgotten here and in the browser's storage. */
export function forgetKey() {
  key = null;
  store("sessionStorage", null);
  store("localStorage", null);
  become("live");
  wake();
}

/** Tries a key; keeps it if it is good. The answer is an error to show, or nothing. */
export async function useKey(candidate, remember) {
  let answer;
  try {
    answer = await fetch("api/metrics/behavior?limit=1", {headers: {"X-Api-Key": candidate}, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS)});
  } catch (error) {
    return error instanceof TypeError && !navigator.onLine ? "You are offline." : "The server does not answer. Try again.";
  }
  // What is refused for another reason than the key (it is still starting) has let the key pass.
  if (answer.status === 401 || answer.status === 403 || answer.status === 429) return sentenceOf(await textOf(answer), answer.status);
  key = candidate;
  store("sessionStorage", candidate);
  store("localStorage", remember ? candidate : null);
  become("live");
  return "";
}

async function textOf(answer) {
  try {
    return await answer.text();
  } catch {
    return "";
  }
}

function sentenceOf(text, status) {
  try {
    const {detail} = JSON.parse(text);
    if (typeof detail === "string") return detail;
    if (Array.isArray(detail)) return detail.map(({loc, msg}) => `${loc?.at?.(-1) ?? "request"}: ${msg}`).join("; ");
  } catch { /* Not the server's own words: a proxy's. */ }
  return `The server answers ${status}.`;
}

/** Turns an answer that is not what was asked for into the error to throw. */
export async function refusal(answer) {
  const text = await textOf(answer);
  const sentence = sentenceOf(text, answer.status);
  if (answer.status === 401 || answer.status === 403) {
    become("locked", answer.status === 401 && !hasKey() ? "Reading takes one of its read keys (METRICS_READ_KEYS)." : sentence);
    return new Unreachable(sentence);
  }
  if (answer.status === 502 || answer.status === 504) {
    lost("A proxy on the way says that the server does not answer.");
    return new Unreachable(sentence);
  }
  const seconds = Number(answer.headers.get("Retry-After"));
  return new Refused(answer.status, sentence, Number.isFinite(seconds) ? 1_000 * seconds : 0);
}

/** The server did not answer at all. */
export function failed() {
  lost(navigator.onLine ? "The server does not answer." : "You are offline.");
  return new Unreachable("no answer");
}

/** Gets JSON. Statuses in `accept` are as good as 200. Throws `Refused` or `Unreachable`. */
export async function get(path, {accept = [], signal, parse = JSON.parse} = {}) {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  let answer, body;
  try {
    const limits = signal ? AbortSignal.any([signal, patience]) : patience;
    answer = await fetch(path, {headers: headers(), cache: "no-store", signal: limits});
    if (answer.ok || accept.includes(answer.status)) body = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw new Unreachable("not wanted any more");
    throw failed();
  }
  if (body === undefined) throw await refusal(answer);
  attempts = 0;
  if (connection.state !== "live" && connection.state !== "locked") become("live");
  try {
    return parse(body);
  } catch {
    throw new Refused(answer.status, "The server's answer is not JSON.");
  }
}

function wake() {
  for (const run of wakers) run();
}

/**
 * Calls `load` again and again while the page is looked at and the server is there: each `period()` seconds, and with pauses
 * of ten times as long as it took, so that slow answers do not pile up. `fail` gets what was refused. Returns a function
 * that has it called at once.
 */
export function poll(load, period, fail) {
  let next = 0;
  let isRunning = false;
  let isWanted = false;
  async function run() {
    clearTimeout(next);
    if (isRunning) {
      isWanted = true;
      return;
    }
    if (document.hidden || connection.state !== "live") return;
    isRunning = true;
    isWanted = false;
    const began = performance.now();
    let wait = 0;
    try {
      await load();
    } catch (error) {
      if (error instanceof Refused) {
        wait = error.wait;
        fail(error);
      } else if (!(error instanceof Unreachable)) {
        console.error(error);
      }
    }
    isRunning = false;
    const rest = Math.max(1_000 * period(), 10 * (performance.now() - began), wait);
    next = setTimeout(run, isWanted ? wait : rest);
  }
  wakers.add(run);
  return run;
}

/** Begins. */
export function start() {
  document.addEventListener("visibilitychange", () => document.hidden || wake());
  addEventListener("online", tryNow);
  tryNow();
}

export {HEALTH};
