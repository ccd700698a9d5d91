"""The servers that are compared: how each is built, started, and what a 202 of it means."""

import pathlib
import subprocess
import sys

from measuring import BATCH_PATH, EVENT_PATH, ROOT, TARGET, Server, event

PEERS_DIRECTORY = ROOT / "benches/peers"
BUILD = TARGET / "compare"
BATCH_EVENTS, PIPELINE = 1000, 16
# Of the shape `paced`, requests a second: what all but the slowest take, at every level of acknowledgement.
PACED_RATE = 30_000
NGINX = """
daemon off; worker_processes 1; pid %(directory)s/pid; error_log /dev/null;
events { worker_connections 1024; }
http {
    access_log off; keepalive_requests 1000000000;
    client_body_temp_path %(directory)s/body; proxy_temp_path %(directory)s/proxy; fastcgi_temp_path %(directory)s/fastcgi;
    uwsgi_temp_path %(directory)s/uwsgi; scgi_temp_path %(directory)s/scgi;
    server {
        listen 127.0.0.1:%(port)d;
        location / { default_type application/json; return 202 '{"ok":true,"stored":1,"file":"./data/metrics.jsonl"}'; }
    }
}
"""
LINES = "\n".join(map(event, range(BATCH_EVENTS)))
ARRAY = "[" + ",".join(map(event, range(BATCH_EVENTS))) + "]"

# In the order they are shown: what it is, and what its 202 means.
PEERS = {
    "nginx": ("nginx, answers at once", "nothing is stored, the body is not looked at"),
    "minihttp": ("may_minihttp, reads the body", "nothing is stored"),
    "journaled": ("Floodgate, journaled", "survives a kill of the server"),
    "written": ("Floodgate, written", "in the log, which others see"),
    "synced": ("Floodgate, synced", "on the disk"),
    "axum": ("axum, serde_json, BufWriter", "in the server's memory; gone with a kill"),
    "fastapi": ("FastAPI, Pydantic (the original)", "in the file, which others see"),
}
FLOODGATE = ("journaled", "written", "synced")
# Of the latencies only: a file is sealed every other second, and a dashboard asks what it asks.
WATCHED = "watched"
LATENCY_ONLY = {WATCHED: ("Floodgate, journaled, rotating, a dashboard open", PEERS["journaled"][1])}
YARDSTICK = "minihttp"

SHAPES = {
    # name: (what, path, body of the peers that take another one, requests in a write, events in a request, peers that have it)
    "single": ("an event a request", EVENT_PATH, event(7), {}, 1, 1, list(PEERS)),
    "paced": (f"an event a request, {PACED_RATE:,} a second", EVENT_PATH, event(7), {}, 1, 1, [name for name in PEERS if name != "fastapi"]),
    "pipelined": (f"pipelined by {PIPELINE}", EVENT_PATH, event(7), {}, PIPELINE, 1, list(PEERS)),
    # nginx would not look at the body, and the yardstick's buffer is smaller than it.
    "batch": (f"{BATCH_EVENTS:,} events a request", BATCH_PATH, LINES, {"fastapi": ARRAY}, 1, BATCH_EVENTS,
              [*FLOODGATE, "axum", "fastapi"]),
}


def build(binary):
    """Makes what is missing: the axum peer, and an environment with what is on PyPI for the other one."""
    subprocess.run(["cargo", "build", "--locked", "--release", "--target-dir", BUILD / "axum"],
                   cwd=PEERS_DIRECTORY / "axum", check=True)
    python = BUILD / "fastapi/bin/python"
    if not python.exists():
        subprocess.run(["/usr/bin/python3", "-m", "venv", BUILD / "fastapi"], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "-r", PEERS_DIRECTORY / "fastapi/requirements.txt"], check=True)
    for path in (pathlib.Path(binary), TARGET / "release/examples/minihttp"):
        if not path.exists():
            sys.exit(f"there is no {path}: cargo build --release --bin floodgate --example minihttp")


def start(name, binary, port):
    """Starts one."""
    def words(directory):
        log = f"{directory}/metrics.jsonl"
        if name in (*FLOODGATE, WATCHED):
            settings = {"METRICS_BIND": f"127.0.0.1:{port}", "METRICS_WORKERS": "1", "METRICS_JSONL": log}
            return [binary], settings | ({"METRICS_ROTATE_BYTES": "32MiB"} if name == WATCHED else {"METRICS_ACK": name})
        if name == "minihttp":
            return [TARGET / "release/examples/minihttp", "nothing", str(port)], {}
        if name == "axum":
            return [BUILD / "axum/release/peer-axum", str(port), log], {}
        if name == "fastapi":
            return [BUILD / "fastapi/bin/uvicorn", "app:app", "--app-dir", PEERS_DIRECTORY / "fastapi", "--port", str(port),
                    "--no-access-log", "--log-level", "warning"], {"METRICS_JSONL": log}
        config = pathlib.Path(directory) / "nginx.conf"
        config.write_text(NGINX % {"directory": directory, "port": port})
        return ["nginx", "-p", directory, "-c", config], {}

    return Server((PEERS | LATENCY_ONLY)[name][0], f"http://127.0.0.1:{port}", words)


def versions(binary):
    """What was compared."""
    def said(*words):
        done = subprocess.run(words, capture_output=True, text=True)
        return (done.stdout + done.stderr).strip()

    def locked(path, name):
        text = path.read_text().split(f'name = "{name}"\nversion = "', 1)
        return text[1].split('"', 1)[0] if len(text) > 1 else "?"

    pip = said(BUILD / "fastapi/bin/python", "-m", "pip", "freeze").splitlines()
    python = {line.split("==")[0]: line.split("==")[1] for line in pip if "==" in line}
    axum = PEERS_DIRECTORY / "axum/Cargo.lock"
    return {
        "Floodgate": f"{said(binary, '--version').split()[-1]}, commit {said('git', '-C', ROOT, 'rev-parse', '--short=10', 'HEAD')}",
        "may_minihttp": locked(ROOT / "Cargo.lock", "may_minihttp"),
        "axum": f"{locked(axum, 'axum')}, hyper {locked(axum, 'hyper')}, serde_json {locked(axum, 'serde_json')}",
        "FastAPI": f"{python.get('fastapi')}, Pydantic {python.get('pydantic')}, uvicorn {python.get('uvicorn')}, "
                   f"{said(BUILD / 'fastapi/bin/python', '--version')}",
        "nginx": said("nginx", "-v").rsplit("/", 1)[-1],
        "wrk": (said("wrk", "-v").splitlines() or ["?"])[0].split(" [")[0].removeprefix("wrk ").split()[0],
        "rustc": said("rustc", "--version").removeprefix("rustc "),
    }
