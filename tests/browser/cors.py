#!/usr/bin/env python3
"""A real page in a real browser: fetch and sendBeacon from another origin, with a cookie, into the log.

    tests/browser/cors.py target/release/floodgate

Headless Chromium (Debian package `chromium`) opens a page of an origin that is allowed and one of an origin that is not. Each
sends events as pages do: fetch with credentials, fetch with headers that the browser has to ask for first, a beacon of plain
text, and, when the page is left, one of plain text and one of a JSON Blob, which the browser asks for too. What may arrive
has to be in the log with the browser's user agent, and nothing else; what a page may read of an answer is
compared as well. Uses Python's standard library only. Exit code: 0 fine, 1 something is wrong or there is no browser.
"""

import base64
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

PATIENCE = 60
BROWSERS = ["chromium", "chromium-browser", "google-chrome"]
PAGE = """<!doctype html><title>page</title><script>
const server = "SERVER", name = "NAME"
const event = what => JSON.stringify({visitor_id: "visitor-" + name, event: what, metadata: {page: name}})
const post = (what, options) => fetch(server + "/api/metrics/event", {method: "POST", body: event(what), ...options})
const attempt = async (what, send) => {
  try {
    const answer = await send()
    return {status: answer.status, type: answer.type, ack: answer.headers.get("x-ack"), body: await answer.json()}
  } catch (error) { return {error: error.name} }
}
async function run() {
  document.cookie = "session=" + name + "; path=/"
  const json = {"Content-Type": "application/json", "X-Api-Key": "KEY"}
  const results = {
    plain: await attempt("plain", () => post("fetch-plain", {credentials: "include", headers: {"Content-Type": "text/plain"}})),
    json: await attempt("json", () => post("fetch-json", {credentials: "include", headers: {...json, "X-Ack": "written"}})),
    invalid: await attempt("invalid", () => post("", {credentials: "include", headers: json})),
    read: await attempt("read", () => fetch(server + "/api/metrics/behavior", {credentials: "include"})),
    beacon: navigator.sendBeacon(server + "/api/metrics/event", event("beacon-text")),
  }
  addEventListener("pagehide", () => {
    navigator.sendBeacon(server + "/api/metrics/event", event("hide-text"))
    navigator.sendBeacon(server + "/api/metrics/event", new Blob([event("hide-json")], {type: "application/json"}))
  })
  return JSON.stringify(results)
}
</script>"""
# A simple request is sent before the browser knows the answer: it is stored wherever it comes from, and only the answer is
# kept from the page. What the browser asks for first is not sent at all.
SIMPLE = {"fetch-plain", "beacon-text", "hide-text"}
ASKED = {"fetch-json", "hide-json"}


def fail(message):
    sys.exit(f"tests/browser/cors.py: {message}")


class Floodgate:
    """The server under test, which lets one origin in."""

    def __init__(self, binary, folder, origins):
        self.log = folder / "metrics.jsonl"
        self.access = folder / "access.jsonl"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("METRICS_")}
        environment |= {"METRICS_BIND": "127.0.0.1:0", "METRICS_JSONL": str(self.log), "METRICS_LOG_FORMAT": "json",
                        "METRICS_CORS_ORIGINS": origins, "METRICS_ACCESS_LOG": str(self.access)}
        self.process = subprocess.Popen([binary], env=environment, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if '"message":"listening"' in line:
                self.url = "http://" + json.loads(line)["address"]
                break
        else:
            fail("the server did not start")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def events(self):
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stop(self):
        self.process.terminate()
        if self.process.wait(PATIENCE) != 0:
            fail("the server did not stop in order")


class Page:
    """A page at a port of its own, which makes it an origin of its own."""

    def __init__(self, name):
        page = self
        self.name = name
        self.text = b""

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                text = page.text if self.path == "/" else b""
                self.send_response(200 if text else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        self.origin = f"http://127.0.0.1:{pages.server_address[1]}"

    def use(self, server):
        text = PAGE.replace("SERVER", server).replace("NAME", self.name).replace("KEY", "0123456789abcdef")
        self.text = text.encode()


class Tab:
    """A tab of the browser, spoken to in the DevTools protocol: JSON messages over a WebSocket (RFC 6455)."""

    def __init__(self, address):
        host, port, path = re.fullmatch(r"ws://([^:/]+):(\d+)(/.*)", address).groups()
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self.stream = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        if b" 101 " not in self.stream.readline():
            fail("the browser does not speak WebSocket")
        while self.stream.readline().strip():
            pass
        self.number = 0

    def receive(self):
        text = b""
        while True:
            first, second = self.stream.read(2)
            length = second & 127
            if length == 126:
                length, = struct.unpack(">H", self.stream.read(2))
            elif length == 127:
                length, = struct.unpack(">Q", self.stream.read(8))
            payload = self.stream.read(length)
            if first & 15 == 8:
                fail("the browser ended the conversation")
            if first & 15 in (0, 1):
                text += payload
                if first & 128:
                    return json.loads(text)

    def call(self, method, **parameters):
        self.number += 1
        data = json.dumps({"id": self.number, "method": method, "params": parameters}).encode()
        mask = os.urandom(4)
        head = b"\x81" + (bytes([128 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data)))
        self.socket.sendall(head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)))
        while True:
            message = self.receive()
            if message.get("id") == self.number:
                if "error" in message:
                    fail(f"{method}: {message['error']}")
                return message["result"]

    def wait_for(self, what, expression):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
            if result["result"].get("value"):
                return
            time.sleep(0.05)
        fail(f"waited in vain: {what}")


class Browser:
    def __init__(self, folder):
        path = next(filter(None, map(shutil.which, BROWSERS)), None)
        if path is None:
            fail("there is no Chromium (apt-get install chromium)")
        # In a container, where tests run as root, there is neither a sandbox nor much of /dev/shm.
        words = [path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        told = folder / "DevToolsActivePort"
        deadline = time.monotonic() + PATIENCE
        while not (told.exists() and told.read_text().count("\n") >= 1):
            if time.monotonic() > deadline or self.process.poll() is not None:
                fail("the browser did not start")
            time.sleep(0.05)
        self.url = f"http://127.0.0.1:{told.read_text().split()[0]}"

    def tab(self):
        tabs = json.load(urllib.request.urlopen(f"{self.url}/json/list", timeout=PATIENCE))
        return Tab(next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"))

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE)


def visit(tab, page):
    """Opens the page, has it send, and leaves it. Gives what the page saw."""
    origin = page.origin
    tab.call("Page.navigate", url=origin + "/")
    tab.wait_for("the page", f"location.origin === {json.dumps(origin)} && typeof run === 'function'")
    result = tab.call("Runtime.evaluate", expression="run()", awaitPromise=True, returnByValue=True)
    if "exceptionDetails" in result:
        fail(f"the page: {result['exceptionDetails']}")
    tab.call("Page.navigate", url="about:blank")
    tab.wait_for("the page's end", "location.href === 'about:blank'")
    return json.loads(result["result"]["value"])


def await_events(server, page, names):
    """Waits for the events of a page, and checks that there are no others."""
    deadline = time.monotonic() + PATIENCE
    while True:
        events = [event for event in server.events() if event["metadata"]["page"] == page]
        if {event["event"] for event in events} >= names:
            break
        if time.monotonic() > deadline:
            fail(f"the events of {page} are {sorted(event['event'] for event in events)}, expected {sorted(names)}")
        time.sleep(0.05)
    return events


def expect(what, found, expected):
    if found != expected:
        fail(f"{what}: expected {expected}, found {found}")


def check(server, browser, allowed_page, strange_page):
    tab = browser.tab()
    agent = tab.call("Browser.getVersion")["userAgent"]
    blocked = {"error": "TypeError"}

    seen = visit(tab, allowed_page)
    for name, ack in ("plain", "journaled"), ("json", "written"):
        expect(f"{name} of the allowed page", {key: seen[name].get(key) for key in ("status", "type", "ack")},
               {"status": 202, "type": "cors", "ack": ack})
    expect("what the allowed page reads of an error", seen["invalid"].get("status"), 422)
    expect("what it reads of the read side", seen["read"].get("status"), 200)
    expect("its beacon", seen["beacon"], True)

    strange = visit(tab, strange_page)
    for name in "plain", "json", "invalid", "read":
        expect(f"{name} of the strange page", strange[name], blocked)

    allowed = await_events(server, "allowed", SIMPLE | ASKED)
    stranger = await_events(server, "strange", SIMPLE)
    # The page was left, and its last beacons sent, before the tab was closed; the server answered all of them.
    browser.stop()
    server.stop()
    for events, names in (allowed, SIMPLE | ASKED), (stranger, SIMPLE):
        expect("events", sorted(event["event"] for event in events), sorted(names))
        expect("user agents", {event["user_agent"] for event in events}, {agent})
    events = [event for event in server.events() if event["metadata"]["page"] == "strange"]
    expect("events of the strange page", {event["event"] for event in events}, SIMPLE)
    asked = [json.loads(line) for line in server.access.read_text().splitlines()]
    if not any(entry["method"] == "OPTIONS" and entry["status"] == 204 for entry in asked):
        fail("the browser asked for nothing before it sent")
    print(f"{agent}: fetch and beacons of an allowed page are stored and answered, and a strange page is told nothing")


def main():
    if len(sys.argv) != 2:
        fail("usage: tests/browser/cors.py BINARY")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        folder = pathlib.Path(folder)
        (folder / "profile").mkdir()
        pages = [Page("allowed"), Page("strange")]
        server = browser = None
        try:
            server = Floodgate(os.path.realpath(sys.argv[1]), folder, pages[0].origin)
            for page in pages:
                page.use(server.url)
            browser = Browser(folder / "profile")
            check(server, browser, *pages)
        finally:
            for started in server, browser:
                if started is not None and started.process.poll() is None:
                    started.process.kill()
                    started.process.wait()


if __name__ == "__main__":
    main()
