// The tracker: a page's events to the server that this script came from. docs/TRACKER.md says how to use it.
//
// What is served as /tracker.js is made of this file by `tests/e2e/run minify`, and stays below 2,048 bytes.
//
// - An event is in one place at a time: in `queue`, under way, or in the browser's storage. Storage holds what could not be
//   sent when the page was hidden; whichever page comes next takes it out and sends it.
// - A batch is sent again only where the server has not stored it: when it cannot be reached, or says so (429, 503 with
//   Retry-After, or a proxy's 502). A page that may not read answers (its origin is not in METRICS_CORS_ORIGINS) cannot tell a refusal from a
//   success and sends each batch once.
// - Nothing here may break its page: storage can be switched off, and metadata can be anything.
((window, document, navigator) => {
  var script = document.currentScript;
  var option = name => script?.getAttribute("data-" + name);
  var early = window.floodgate?.q || [];
  var ID = "floodgate.id";
  var QUEUE = "floodgate.q";
  // Several of the longest batches fit into what a browser takes of a page that ends (64 KiB, of which a character may need 3).
  var BATCH_EVENTS = 20;
  var BATCH_CHARACTERS = 2e4;
  var QUEUE_EVENTS = 200;
  var url = new URL("api/metrics/events/batch?partial=true", option("endpoint") || script.src);
  var queue = [];
  var visitor, timer, isBusy, path;
  var failures = 0;
  var mode = "cors";
  var canRead;

  // Gives what is stored, and removes it where `value` is `null`; or stores a value, and gives it if that went well.
  var storage = (name, value) => {
    try {
      var old = localStorage.getItem(name);
      if (value) localStorage.setItem(name, old = value);
      if (value === null) localStorage.removeItem(name);
      return old;
    } catch (e) {}
  };

  if (navigator.globalPrivacyControl || navigator.doNotTrack == 1) {
    // Who does not want to be followed is not: nothing is sent, and nothing is kept.
    storage(ID, null);
    storage(QUEUE, null);
    window.floodgate = () => {};
    return;
  }

  var restore = () => {
    try {
      queue = [].concat(JSON.parse(storage(QUEUE, null)) || [], queue);
    } catch (e) {}
  };

  var save = () => {
    restore();
    if (queue[0] && storage(QUEUE, JSON.stringify(queue.slice(-QUEUE_EVENTS)))) queue = [];
  };

  var batch = () => {
    var size = 0;
    var count = 0;
    while (count < BATCH_EVENTS && queue[count] && (size += queue[count].length) < BATCH_CHARACTERS) count++;
    return queue.splice(0, count);
  };

  // Calls `send` in so many milliseconds, unless that is going to happen anyway.
  var later = ms => {
    timer = timer || setTimeout(send, ms);
  };

  var again = (events, seconds) => {
    queue = events.concat(queue).slice(-QUEUE_EVENTS);
    clearTimeout(timer);
    timer = 0;
    // A second, two, four … five minutes, and never all visitors at once.
    later(Math.max(seconds * 1e3 || 0, Math.min(3e5, 1e3 * 2 ** failures++) * (0.5 + Math.random())));
    if (document.hidden) save();
  };

  var send = () => {
    clearTimeout(timer);
    timer = 0;
    var events = isBusy ? [] : batch();
    if (!events[0]) return;
    var retry = () => again(events);
    isBusy = 1;
    fetch(url, {method: "POST", body: events.join("\n"), mode: mode, keepalive: true})
      .then(answer => {
        var after = answer.headers.get("Retry-After");
        canRead = 1;
        if (after || answer.status == 429 || answer.status == 502) again(events, after);
        else failures = 0;
      }, () =>
        // No answer, or one that this page may not read? A request that asks for nothing tells.
        canRead ? retry() : fetch(url, {mode: "no-cors"}).then(() => fetch(url).then(retry, () => {
          mode = "no-cors";
        }), retry))
      .then(() => {
        isBusy = 0;
        later(0);
      });
  };

  var hide = () => {
    // A beacon tells nobody whether it has arrived: while the server cannot be reached events are rather kept.
    for (var events; !failures && navigator.onLine && (events = batch())[0];) {
      if (!navigator.sendBeacon(url, events.join("\n"))) {
        queue = events.concat(queue);
        break;
      }
    }
    save();
  };

  var floodgate = (event, metadata) => {
    try {
      var text = JSON.stringify({visitor_id: visitor, event: event, timestamp: new Date(), metadata: metadata});
      if (text.length < BATCH_CHARACTERS) queue.push(text);
      queue = queue.slice(-QUEUE_EVENTS);
      if (queue.length < BATCH_EVENTS || failures) later(3e3);
      else send();
    } catch (e) {}
  };

  var view = () => {
    if (path != (path = location.pathname)) floodgate("page_view", {path: path, title: document.title, referrer: document.referrer.split("?")[0]});
  };

  if (option("key")) url.searchParams.set("key", option("key"));
  visitor = storage(ID);
  if (!visitor) storage(ID, visitor = [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(36)).join(""));
  window.floodgate = floodgate;
  restore();
  early.forEach(call => floodgate(call[0], call[1]));
  later(0);
  if (option("auto") != null) {
    view();
    var push = history.pushState;
    history.pushState = function () {
      push.apply(this, arguments);
      view();
    };
    addEventListener("popstate", view);
  }
  addEventListener("visibilitychange", () => {
    if (document.hidden) return hide();
    restore();
    later(0);
  });
  addEventListener("pagehide", hide);
  addEventListener("online", () => {
    failures = 0;
    send();
  });
})(window, document, navigator);
