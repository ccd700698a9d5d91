"""What scripts that measure servers share: events, servers as processes on a core of their own, and `wrk`."""

import os
import pathlib
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# Of the servers, and of those who make load.
SERVER_CORE, LOAD_CORE = "0", "1"
EVENT_PATH, BATCH_PATH = "/api/metrics/event", "/api/metrics/events/batch"
EVENT = (
    '{"visitor_id":"v-%08x-4f2a","event":"%s","timestamp":"2025-10-09T12:34:56.%06dZ",'
    '"metadata":{"path":"/products/%d","n":%d,"ok":true},'
    '"user_agent":"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101"}'
)
NAMES = ["page_view", "link_click", "scroll", "purchase", "search"]
LUA = """
local body = %s
local path, pipeline = "%s", %d
function init(args)
  local one = wrk.format("POST", path, {["Content-Type"] = "application/json"%s}, body)
  request_text = string.rep(one, pipeline)
end
function request() return request_text end
"""


def wrk_script(path, body, pipeline=1, headers=()):
    """A script for `wrk` that posts `body`, text or bytes; `headers` are pairs beside the content's type."""
    body = body.encode() if isinstance(body, str) else body
    text = '"%s"' % "".join(f"\\{byte:03}" for byte in body)
    return LUA % (text, path, pipeline, "".join(f', ["{name}"] = "{value}"' for name, value in headers))


def event(number):
    return EVENT % (number * 2654435761 % 2**32, NAMES[number % len(NAMES)], number % 10**6, number, number)


def certificate(directory):
    """A key and a certificate for it, signed by itself: the settings that name them."""
    key, cert = f"{directory}/key.pem", f"{directory}/cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-keyout", key, "-out", cert], check=True, capture_output=True)
    return {"METRICS_TLS_CERT": cert, "METRICS_TLS_KEY": key}


def on_core(core):
    """What has a command run on that core and, where the system has scheduling groups and lets us, ahead of all other programs: what else
    runs on the machine then costs a spinning thread 1 % of its time, with a compiler on each core, and half of it otherwise."""
    def begin():
        os.sched_setaffinity(0, {int(core)})
        os.setsid()
        try:
            pathlib.Path("/proc/self/autogroup").write_text("-20")
        except OSError:
            pass

    return begin


class Server:
    """A server under test, on its core, with a folder that goes when it stops.

    `start` is given the folder and answers the words of the command and its environment.
    """

    def __init__(self, name, url, start):
        self.name, self.url = name, url
        self.directory = tempfile.mkdtemp(prefix="floodgate-bench-", dir=os.environ.get("BENCH_DIR"))
        words, added = start(self.directory)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("METRICS_")} | added
        self.process = subprocess.Popen(words, env=environment, cwd=self.directory, preexec_fn=on_core(SERVER_CORE),
                                        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(url, timeout=1, context=ssl._create_unverified_context()).close()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                if time.monotonic() > deadline or not self.is_alive():
                    self.stop()
                    sys.exit(f"{name} does not answer")
                time.sleep(0.02)

    def is_alive(self):
        return self.process.poll() is None

    def _pids(self):
        """The process and its children; nginx works in one of those."""
        pids, seen = [self.process.pid], 0
        while seen < len(pids):
            for task in pathlib.Path(f"/proc/{pids[seen]}/task").glob("*/children"):
                pids += map(int, task.read_text().split())
            seen += 1
        return pids

    def cpu_seconds(self):
        ticks = 0
        for pid in self._pids():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def peak_memory_bytes(self):
        """The most that was resident at a time (VmHWM), mapped files included."""
        texts = (pathlib.Path(f"/proc/{pid}/status").read_text() for pid in self._pids())
        return sum(int(re.search(r"VmHWM:\s+(\d+) kB", text).group(1)) * 1024 for text in texts)

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def wrk(server, path, body, seconds, pipeline=1, headers=(), warm_up=2, look=None):
    """Closed-loop load on 64 connections, as `wrk_script` takes it. Answers requests that were answered, and how much `look` has grown meanwhile: if
    nothing is given, the server's CPU seconds."""
    look = look or server.cpu_seconds
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(wrk_script(path, body, pipeline, headers))
        script.flush()
        def run(seconds):
            words = ["wrk", "-t1", "-c64", "-s", script.name, f"-d{seconds}", server.url]
            return subprocess.run(words, check=True, capture_output=True, text=True, preexec_fn=on_core(LOAD_CORE)).stdout

        run(warm_up)
        before = look()
        done = run(seconds)
        if not server.is_alive():
            sys.exit(f"{server.name} ended under load")
        used = look() - before
    answered = int(re.search(r"(\d+) requests in", done).group(1))
    if "Non-2xx" in done or not answered:
        sys.exit(f"{server.name}, {path}: {done}")
    return answered, used
