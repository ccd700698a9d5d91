// The dashboard: puts its parts to work, and shows whether the server is there, what it asks for, and what the keys do.

import {connection, forgetKey, hasKey, start, tryNow, useKey, watchConnection} from "./api.js";
import {setStale, startFigures, takeCounts} from "./figures.js";
import {startFunnel} from "./funnel.js";
import {startHealth} from "./health.js";
import {showNodes, startNodes} from "./nodes.js";
import {startRanking} from "./ranking.js";
import {startSeries, toggleTable} from "./series.js";
import {startTail, tailLag, togglePause} from "./tail.js";
import {byId, setText} from "./text.js";
import {RANGES, look, watch} from "./view.js";

const STATUS = {connecting: "Connecting", live: "Live", failing: "Events are refused", lost: "No connection", locked: "Key needed"};
const THEMES = ["auto", "light", "dark"];

let isFailing = false;

function showConnection() {
  const {state, sentence, retryAt} = connection;
  const shown = state === "live" && isFailing ? "failing" : state;
  byId("status").dataset.state = shown;
  setText(byId("status-text"), STATUS[shown]);
  byId("banner").hidden = state !== "lost";
  setText(byId("banner-text"), state === "lost" ? `${sentence} What is shown is as of before.` : "");
  const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1_000));
  setText(byId("banner-countdown"), state !== "lost" ? "" : retryAt ? `Next try in ${seconds} s` : "Trying…");
  document.body.dataset.state = state;
  setStale(state !== "live");
  byId("key-button").hidden = !hasKey();
  const dialog = byId("key-dialog");
  if (state === "locked" && !dialog.open) {
    setText(byId("key-reason"), sentence);
    dialog.showModal();
  } else if (state !== "locked" && dialog.open) {
    dialog.close();
  }
}

/** What health says beyond its tiles: the count of events, and whether they are taken at all. */
function showHealth({ok, state, events_stored: count, fleet}) {
  if (isFailing !== !ok) {
    isFailing = !ok;
    showConnection();
  }
  const nodes = fleet?.nodes ?? [];
  showNodes(nodes.map(({node}) => node));
  if (typeof count !== "number" || state === "recovering") return;
  takeCounts(count, nodes);
  // A view of a fleet takes no events itself.
  byId("welcome").hidden = count > 0 || fleet !== undefined;
}

function startWelcome() {
  const here = location.origin + location.pathname;
  byId("welcome-shell").textContent = `curl ${here}api/metrics/event \\\n  -d '{"visitor_id":"visitor-1","event":"page_view"}'`;
  byId("welcome-page").textContent = `<script async src="${here}tracker.js" data-auto></script>`;
}

function startKeys() {
  const dialog = byId("key-dialog");
  // Without a key there is nothing to see behind it.
  dialog.addEventListener("cancel", event => event.preventDefault());
  byId("key-form").addEventListener("submit", async event => {
    event.preventDefault();
    const candidate = byId("key").value.trim();
    const submit = event.submitter;
    if (!/^[\x21-\x7e]{1,128}$/.test(candidate)) {
      setText(byId("key-error"), "A key has letters, digits and signs, and no spaces.");
      return;
    }
    submit.disabled = true;
    setText(byId("key-error"), "");
    const error = await useKey(candidate, byId("key-remember").checked);
    submit.disabled = false;
    setText(byId("key-error"), error);
    if (error) byId("key").select();
    else byId("key").value = "";
  });
  byId("key-button").addEventListener("click", forgetKey);
}

function theme() {
  return document.documentElement.dataset.theme ?? "auto";
}

function nextTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("floodgate.theme", next);
  } catch { /* Storage is switched off: the theme is this page's only. */ }
  showTheme();
}

const showTheme = () => setText(byId("theme-text"), `Theme: ${theme()}`);

function focusField(id) {
  byId(id).focus();
  byId(id).select();
}

const KEYS = {
  n: () => byId("node").focus(),
  f: () => focusField("filter"),
  c: () => look({events: []}),
  v: toggleTable,
  p: togglePause,
  "/": () => focusField("tail-search"),
  s: () => focusField("step"),
  t: nextTheme,
  "?": () => byId("help-dialog").showModal(),
};
Object.keys(RANGES).forEach((range, index) => {
  KEYS[index + 1] = () => look({range});
});

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const isField = event.target.matches?.("input, select, textarea");
  if (event.key === "Escape" && isField && !event.target.closest("dialog")) {
    // Some browsers would empty a search field besides, and tell nobody.
    event.preventDefault();
    event.target.blur();
  }
  if (isField || document.querySelector("dialog[open]") || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
}

watchConnection(showConnection);
setInterval(() => connection.state === "lost" && showConnection(), 500);
byId("banner-button").addEventListener("click", tryNow);
byId("theme-button").addEventListener("click", nextTheme);
byId("help-button").addEventListener("click", KEYS["?"]);
addEventListener("keydown", key);
startKeys();
showTheme();
showConnection();
startWelcome();
startFigures();
startNodes();
startHealth(showHealth, tailLag);
startSeries();
startRanking();
startTail();
startFunnel();
start();
