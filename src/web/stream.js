// The live stream: Server-Sent Events read with fetch, because an EventSource can send no header and would put the key into
// the address. It goes on behind the last event it has seen, after whatever came between.

import {connection, failed, headers, refusal, watchConnection} from "./api.js";

const STREAM = "api/metrics/behavior/stream";
/** The server says something every 15 seconds; one that is silent for longer is not there any more. */
const SILENCE_MS = 40_000;
/** A line is 32 KiB by default; whatever sends more than this without an end is no stream. */
const LINE_MAX = 4 << 20;
const PAUSES_MS = [500, 1_000, 2_000, 5_000, 15_000];

/** Cuts a stream's text into messages, wherever its pieces begin and end. */
export class Messages {
  #rest = "";
  #data = [];
  #event = "";
  #id = null;
  #hasId = false;

  /**
   * Calls with `{event, data, id}` for each message that has ended; `id` is the last one seen. A message may consist of
   * an id alone, the place that the server has come to: its data are `null`.
   */
  push(text, call) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    if (this.#rest.length > LINE_MAX) throw new Error("a line without an end");
    for (const raw of lines) {
      const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
      if (line === "") {
        if (this.#data.length) call({event: this.#event, data: this.#data.join("\n"), id: this.#id});
        else if (this.#hasId) call({event: "", data: null, id: this.#id});
        this.#data = [];
        this.#event = "";
        this.#hasId = false;
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
      if (name === "data") this.#data.push(value);
      else if (name === "event") this.#event = value;
      else if (name === "id") {
        this.#id = value;
        this.#hasId = true;
      }
    }
  }
}

const pause = (ms, signal) => new Promise(resolve => {
  const timer = setTimeout(resolve, ms);
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    resolve();
  }, {once: true});
});

/** Waits until the server is there. */
function reachable(signal) {
  if (connection.state === "live" || signal.aborted) return Promise.resolve();
  return new Promise(resolve => {
    watchConnection(() => connection.state === "live" && resolve());
    signal.addEventListener("abort", resolve, {once: true});
  });
}

/**
 * Follows the events that `query` asks for, or all. `on.open(isResumed)` is called when the server has begun to answer, `on.message`
 * for each message (also those that only tell the place), `on.close(sentence)` when it breaks off or is refused. Returns a
 * function that ends it.
 */
export function follow(query, on, last = null) {
  const end = new AbortController();
  run(query, on, last, end.signal);
  return () => end.abort();
}

async function run(query, on, last, signal) {
  let failures = 0;
  while (!signal.aborted) {
    await reachable(signal);
    if (signal.aborted) return;
    try {
      await once(query, last, signal, {
        open() {
          on.open(last !== null);
        },
        message(message) {
          failures = 0;
          last = message.id ?? last;
          on.message(message);
        },
      });
      on.close("");
    } catch (error) {
      if (signal.aborted) return;
      on.close(error.sentence ?? "");
      if (error.wait) await pause(error.wait, signal);
    }
    await pause(PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)] * (0.8 + 0.4 * Math.random()), signal);
    failures += 1;
  }
}

async function once(query, last, signal, on) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_MS);
  };
  try {
    let answer;
    try {
      const resume = last === null ? {} : {"Last-Event-ID": last};
      answer = await fetch(query ? `${STREAM}?${query}` : STREAM, {
        headers: {Accept: "text/event-stream", ...headers(), ...resume},
        cache: "no-store",
        signal: AbortSignal.any([signal, silence.signal]),
      });
    } catch (error) {
      throw signal.aborted ? error : failed();
    }
    if (!answer.ok) throw await refusal(answer);
    on.open();
    const messages = new Messages();
    const decoder = new TextDecoder();
    const reader = answer.body.getReader();
    for (;;) {
      heard();
      const {done, value} = await reader.read();
      if (done) return;
      messages.push(decoder.decode(value, {stream: true}), on.message);
    }
  } finally {
    clearTimeout(timer);
    silence.abort();
  }
}
