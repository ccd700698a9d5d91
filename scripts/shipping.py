"""What scripts that measure a fleet share: three NATS servers, a node, its shipper and a view, all on this machine."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Fleet:
    """Processes by name, in a folder that goes when they stop."""

    def __init__(self, binary):
        self.binary = str(pathlib.Path(binary).resolve())
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="floodgate-fleet-", dir=os.environ.get("BENCH_DIR")))
        self.processes = {}

    def run(self, name, words, settings=None):
        """Starts a process whose messages go to a file beside its own folder."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("METRICS_")} | (settings or {})
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(words, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def nats(self, servers=3):
        """Starts a cluster, and answers its addresses when a leader has been chosen."""
        ports = free_ports(3 * servers)
        clients, routes, monitors = ports[:servers], ports[servers:2 * servers], ports[2 * servers:]
        for number in range(servers):
            name = f"nats-{number}"
            config = self.folder / f"{name}.conf"
            config.write_text(
                f'server_name: {name}\nlisten: "127.0.0.1:{clients[number]}"\nhttp: "127.0.0.1:{monitors[number]}"\n'
                f'jetstream {{ store_dir: "{self.folder / name}" }}\n'
                f'cluster {{ name: test, listen: "127.0.0.1:{routes[number]}"\n'
                f'  routes: [{", ".join(f"{chr(34)}nats://127.0.0.1:{port}{chr(34)}" for port in routes)}] }}\n')
            self.run(name, ["nats-server", "-c", config])
        self.await_true("the cluster has a leader", lambda: self._has_leader(monitors[0]))
        return ",".join(f"nats://127.0.0.1:{port}" for port in clients)

    def _has_leader(self, port):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/jsz", timeout=2) as answer:
                return json.load(answer)["meta_cluster"].get("leader")
        except (OSError, KeyError):
            return False

    def serve(self, name, **settings):
        """Starts a server; its address."""
        settings = {"METRICS_BIND": "127.0.0.1:0", "METRICS_LOG_FORMAT": "json", "METRICS_NODE": name, **settings,
                    "METRICS_JSONL": str(self.log(name))}
        self.run(name, [self.binary], settings)
        log = self.folder / f"{name}.log"
        listening = self.await_true(f"{name} listens", lambda: re.search(r'"listening","address":"([^"]+)"', log.read_text()))
        return f"http://{listening.group(1)}"

    def ship(self, name, node, url, *options):
        """Ships the log of a server that does not do it."""
        self.await_true(f"{node} has a log", self.log(node).exists)
        words = [self.binary, "ship", url, "--jsonl", self.log(node), "--node", node, *options]
        self.run(name, words, {"METRICS_LOG_FORMAT": "json"})

    def log(self, name):
        return self.folder / name / "metrics.jsonl"

    def load(self, url, events, batch, seconds):
        """Starts load of so many events a second, in batches; its report is in `load.json` at its end."""
        words = [self.binary, "load", "--batch", str(batch), "--rate", str(events / batch), "--connections", "8",
                 "--duration", f"{seconds}s", f"--json={self.folder / 'load.json'}", url]
        with open(self.folder / "load.log", "ab") as log:
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def check(self):
        """Ends the program if a process has ended."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                sys.exit(f"{name} ended: {(self.folder / f'{name}.log').read_text()[-2000:]}")

    def await_true(self, what, look, seconds=60):
        deadline = time.monotonic() + seconds
        while True:
            self.check()
            if found := look():
                return found
            if time.monotonic() > deadline:
                sys.exit(f"waited {seconds} s in vain: {what}")
            time.sleep(0.05)

    def cpu_seconds(self, name):
        fields = pathlib.Path(f"/proc/{self.processes[name].pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self, name):
        status = pathlib.Path(f"/proc/{self.processes[name].pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.folder)


def total(url):
    """Events that a server has counted."""
    with urllib.request.urlopen(f"{url}/api/metrics/behavior?limit=1", timeout=30) as answer:
        return json.load(answer)["total"]


def metrics(url):
    """What `/metrics` says, of names without labels."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.split(" ")[:2] for line in lines if not line.startswith("#")) if "{" not in name}
