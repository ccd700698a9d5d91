#!/usr/bin/env python3
"""Whether the server is what /openapi.json says, /metrics what Prometheus reads, and /docs a page that works.

    tests/openapi/check.py target/release/floodgate [SEED]

Run by `scripts/test` with the Python of an environment that has schemathesis, openapi-spec-validator and prometheus_client
(target/openapi). The description must be valid OpenAPI 3.1; answers that the server really gives, errors included, must be what
it describes; and schemathesis must find nothing with requests that it makes up from it, always the same ones unless a SEED is
given. All that it made the server store must then pass `floodgate verify`. The page is opened in headless Chromium.
Exit code: 0 fine, 1 something is wrong.
"""

import contextlib
import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import jsonschema
import openapi_spec_validator
import prometheus_client.openmetrics.parser as openmetrics
import prometheus_client.parser as classic

HERE = pathlib.Path(__file__).resolve().parent
EVENT, BATCH = "/api/metrics/event", "/api/metrics/events/batch"
BEHAVIOR, HEALTH = "/api/metrics/behavior", "/api/metrics/behavior/health"
ONE = {"visitor_id": "visitor-1", "event": "page_view", "timestamp": 1_795_348_800, "metadata": {"price": 1.1}, "user_agent": None}
PATIENCE = 60
READ, WRITE = "read-0123456789abcdef", "write-0123456789abcdef"


@contextlib.contextmanager
def server(binary, **settings):
    """A running server: its address and the folder with its files."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        own = {"METRICS_BIND": "127.0.0.1:0", "METRICS_LOG_FORMAT": "json", **settings}
        env = {name: value for name, value in os.environ.items() if not name.startswith("METRICS_")} | own
        with open(folder / "messages", "wb") as messages:
            process = subprocess.Popen([binary], cwd=folder, env=env, stderr=messages)
        try:
            deadline = time.monotonic() + PATIENCE
            while not (found := re.search(r'"address":"([^"]+)"', (folder / "messages").read_text())):
                assert process.poll() is None and time.monotonic() < deadline, (folder / "messages").read_text()
                time.sleep(0.01)
            yield f"http://{found[1]}", folder
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, "a clean stop exits with 0"
        finally:
            process.kill()
            process.wait()


def call(url, method, target, body=None, **headers):
    """Status, headers and body of an answer."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
    request = urllib.request.Request(url + target, data, headers, method=method)
    try:
        answer = urllib.request.urlopen(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers, answer.read()


def resolved(document, thing):
    while "$ref" in thing:
        at = document
        for step in thing["$ref"].removeprefix("#/").split("/"):
            at = at[step]
        thing = at
    return thing


def expect(document, url, status, method, target, body=None, **headers):
    """Has a request answered with that status, and its answer held against the description. Gives the parsed body."""
    got, got_headers, got_body = call(url, method, target, body, **headers)
    what = f"{method} {target}: {got} {got_body[:300]}"
    assert got == status, f"{what}, expected {status}"
    operation = document["paths"][target.split("?")[0]][method.lower()]
    described = operation["responses"].get(str(status))
    assert described, f"{what} is not described"
    described = resolved(document, described)
    for name in ["X-Ack", "X-Seq", "Retry-After", "X-Request-Id", "WWW-Authenticate"]:
        assert name not in got_headers or name in described.get("headers", {}), f"{what}: {name} is not described"
    content = described["content"].get(got_headers["Content-Type"])
    assert content, f"{what}: {got_headers['Content-Type']} is not described"
    if got_headers["Content-Type"] != "application/json":
        return got_body
    parsed = json.loads(got_body)
    # References lead into the document, which is the root therefore.
    schema = document | {"$ref": f"#/x", "x": content["schema"]}
    checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    for error in checker.iter_errors(parsed):
        raise AssertionError(f"{what}\n{error.message} at {list(error.absolute_path)}")
    return parsed


def check_answers(document, url):
    two = [ONE, ONE | {"event": "leave"}]
    for ack in ["journaled", "written", "synced"]:
        expect(document, url, 202, "POST", f"{EVENT}?ack={ack}", ONE)
        expect(document, url, 202, "POST", BATCH, two, X_Ack=ack)
    lines = b"\n".join(json.dumps(event).encode() for event in two)
    assert expect(document, url, 202, "POST", BATCH, lines, Content_Type="application/x-ndjson")["stored"] == 2
    partial = expect(document, url, 202, "POST", f"{BATCH}?partial=true", [ONE, {}, 1])
    assert (partial["stored"], partial["rejected"]) == (1, 2)
    expect(document, url, 202, "POST", EVENT, gzip.compress(json.dumps(ONE).encode()), Content_Encoding="gzip")
    expect(document, url, 400, "POST", EVENT, b"no gzip", Content_Encoding="gzip")
    expect(document, url, 400, "POST", EVENT, b'{"event":"\xff"}')
    expect(document, url, 413, "POST", EVENT, b"x" * (2 << 20))
    expect(document, url, 415, "POST", EVENT, ONE, Content_Encoding="br")
    for wrong in [{}, [], {"visitor_id": 1, "event": "", "timestamp": "x", "metadata": []}, b"{", b""]:
        expect(document, url, 422, "POST", EVENT, wrong)
    expect(document, url, 422, "POST", BATCH, [ONE, {"visitor_id": "x"}])
    expect(document, url, 422, "POST", EVENT, ONE, X_Ack="soon")
    expect(document, url, 422, "POST", f"{BATCH}?partial=perhaps", two)
    snapshot = expect(document, url, 200, "GET", f"{BEHAVIOR}?limit=2")
    assert len(snapshot["last_events"]) == 2 and snapshot["total"] == 13, snapshot
    for limit in ["0", "501", "x"]:
        expect(document, url, 422, "GET", f"{BEHAVIOR}?limit={limit}")
    health = expect(document, url, 200, "GET", HEALTH)
    assert health["events_stored"] == 13 and health["connections"] == 1 and health["disk"]["free_bytes"] > 0, health
    assert health["latency"]["append_us"]["max"] >= health["latency"]["append_us"]["p50"] > 0, health
    for target in ["/openapi.json", "/docs"]:
        expect(document, url, 200, "GET", target)


def check_refusals(document, binary):
    keys = {"METRICS_READ_KEYS": READ, "METRICS_WRITE_KEYS": WRITE}
    with server(binary, **keys) as (url, _):
        for method, target, key, other in [("POST", EVENT, WRITE, READ), ("GET", BEHAVIOR, READ, WRITE), ("GET", "/metrics", READ, WRITE)]:
            body = ONE if method == "POST" else None
            expect(document, url, 401, method, target, body)
            expect(document, url, 401, method, target, body, X_Api_Key="x" * 20)
            expect(document, url, 403, method, target, body, X_Api_Key=other)
            status = 202 if method == "POST" else 200
            for shown in [{"X_Api_Key": key}, {"Authorization": f"Bearer {key}"}]:
                expect(document, url, status, method, target, body, **shown)
            expect(document, url, status, method, f"{target}?key={key}", body)
        assert "log" not in expect(document, url, 200, "GET", HEALTH), "health keeps its details"
        for target in ["/openapi.json", "/docs"]:
            expect(document, url, 200, "GET", target)
    with server(binary, METRICS_RATE_LIMIT="1/h") as (url, _):
        expect(document, url, 200, "GET", BEHAVIOR)
        for method, target, body in [("GET", BEHAVIOR, None), ("POST", EVENT, ONE), ("GET", "/metrics", None), ("GET", "/openapi.json", None)]:
            expect(document, url, 429, method, target, body)


def check_metrics(document, url):
    """Both texts have what docs/METRICS.md lists, by names and types."""
    page = (HERE / "../../docs/METRICS.md").read_text()
    listed = dict(re.findall(r"^\| `([a-z_]+)(?:\{[^}]*\})?` \| (counter|gauge|histogram) \|", page, re.M))
    conditional = {name for name in listed if name.startswith(("floodgate_archive_", "floodgate_access_log_"))}
    text = expect(document, url, 200, "GET", "/metrics").decode()
    families = list(classic.text_string_to_metric_families(text))
    # That parser calls counters without `_total`.
    shown = {family.name + ("_total" if family.type == "counter" else ""): family.type for family in families}
    assert shown == {name: kind for name, kind in listed.items() if name not in conditional}, set(shown.items()) ^ set(listed.items())
    assert all(family.samples and family.documentation.endswith(".") for family in families)
    text = expect(document, url, 200, "GET", "/metrics", Accept="application/openmetrics-text").decode()
    families = openmetrics.text_string_to_metric_families(text)
    assert {family.name + ("_total" if family.type == "counter" else ""): family.type for family in families} == shown


def check_page(document, url):
    """The page shows every operation, and its policy lets it."""
    browser = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--enable-logging=stderr"]
    with tempfile.TemporaryDirectory() as profile:
        opened = subprocess.run(
            [browser, *options, f"--user-data-dir={profile}", "--dump-dom", f"{url}/docs"],
            capture_output=True, text=True, timeout=PATIENCE,
        )
    complaints = [line for line in opened.stderr.splitlines() if "CONSOLE" in line]
    assert not complaints, complaints
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    for operation in operations:
        assert f'<article id="{operation["operationId"]}"' in opened.stdout, operation["operationId"]
    assert opened.stdout.count("<article") == opened.stdout.count('class="try"') == len(operations)


def check_made_up(document, url, seed):
    """Requests that schemathesis makes up. An endless stream cannot be waited for."""
    command = [
        str(pathlib.Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json", "--no-color",
        "--phases=examples,coverage,fuzzing", "--max-examples=50", "--continue-on-failure",
        *(["--seed", seed, "--generation-database=none"] if seed else ["--generation-deterministic"]),
    ]
    for path, item in document["paths"].items():
        content = item.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        if "text/event-stream" in content or ("get" in item and call(url, "GET", path)[0] == 404):
            command += ["--exclude-path", path]
    env = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=10 * PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    print(re.search(r"Test cases:\n(.*)", done.stdout)[1].strip())


def main(binary, seed=None):
    binary = str(pathlib.Path(binary).resolve())
    # Targets as long as what is made up: fifty names of 64 characters, each of them encoded.
    with server(binary, METRICS_HEAD_BYTES_MAX="64KiB", METRICS_TARGET_BYTES_MAX="60KiB") as (url, folder):
        document = json.loads(call(url, "GET", "/openapi.json")[2])
        assert document["openapi"].startswith("3.1.")
        openapi_spec_validator.OpenAPIV31SpecValidator(document).validate()
        check_answers(document, url)
        check_metrics(document, url)
        check_page(document, url)
        check_refusals(document, binary)
        check_made_up(document, url, seed)
        total = json.loads(call(url, "GET", f"{BEHAVIOR}?limit=1")[2])["total"]
        verified = subprocess.run([binary, "verify", "--json", "data/metrics.jsonl"], cwd=folder, capture_output=True, text=True)
        assert verified.returncode == 0, verified.stdout
    print(f"the server is what it says; {total} events stored, all of them sound")


if __name__ == "__main__":
    main(*sys.argv[1:])
