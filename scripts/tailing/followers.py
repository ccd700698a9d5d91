"""The tailers: how each is found, configured and started. `docs/TAILING.md` shows the same configurations to copy."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

from tailing.check import Result


def go_first():
    """The rest before a rename is for tailers that are some hundred milliseconds late, not for a machine on which all
    else comes before them."""
    with contextlib.suppress(PermissionError):
        os.nice(-10)


class Follower:
    """A program that follows `folder/metrics.jsonl` and writes every line it gets to `output`.

    `lossless` is what we declare: a run fails if such a tailer does not end with exactly the stored lines.
    """

    name = ""
    lossless = True
    # Whether lines of one file come in the order of the file.
    ordered = True
    package = ""

    def __init__(self, folder, work, tools):
        self.live = folder / "metrics.jsonl"
        self.folder, self.work, self.tools = folder, work, tools
        self.output = work / "output"
        self.process = None

    def missing(self):
        """What has to be installed, or nothing."""
        return None if self.program() else self.package

    def program(self):
        raise NotImplementedError

    def version(self):
        done = subprocess.run([self.program(), "--version"], capture_output=True, text=True, env=self.environment())
        return re.search(r"\d+\.[\w.]+", done.stdout + done.stderr).group()

    def environment(self):
        return dict(os.environ)

    def command(self):
        raise NotImplementedError

    def start(self):
        with open(self.work / "stdout", "ab") as stdout, open(self.work / "stderr", "ab") as stderr:
            self.process = subprocess.Popen(
                self.command(), stdout=stdout, stderr=stderr, env=self.environment(), cwd=self.work, preexec_fn=go_first
            )

    def stop(self):
        """Ends the program as its service manager would."""
        if self.process.poll() is not None:
            return f"ended on its own with {self.process.returncode}"
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return ""

    def progress(self):
        """Grows while lines still come in."""
        return self.output.stat().st_size if self.output.exists() else 0

    def caught_up(self, store):
        return self.progress() >= store.size

    def result(self, store):
        content = self.output.read_bytes() if self.output.exists() else b""
        lines = content.split(b"\n")
        # What follows the last line feed is a line cut off, unless it is nothing.
        return store.compare(lines if lines[-1] else lines[:-1])


class Printing(Follower):
    """A program that prints the lines."""

    def __init__(self, *where):
        super().__init__(*where)
        self.output = self.work / "stdout"


class Tail(Printing):
    """GNU tail, with an empty file beside the log: see the next one."""

    name = "tail"
    package = "apt-get install coreutils"

    def program(self):
        return shutil.which("tail")

    def command(self):
        (self.work / "empty").touch()
        return [self.program(), "-q", "-n", "+1", "-F", self.live, self.work / "empty"]


class TailAlone(Tail):
    """GNU tail that finds no file when it starts does without inotify for ever: it looks for growth once a second, and
    for a new file only after five seconds without any. That there is no file may be because it is the first start, or
    because a rotation is just going on."""

    name = "tail-alone"
    lossless = False

    def command(self):
        return [self.program(), "-n", "+1", "-F", self.live]


class BusyboxTail(Printing):
    """The tail of Alpine and other small systems: it looks once a second, and opens the new file without reading the
    old one to its end."""

    name = "busybox"
    lossless = False
    package = "apt-get install busybox"

    def program(self):
        return shutil.which("busybox")

    def version(self):
        banner = subprocess.run([self.program()], capture_output=True, text=True).stdout
        return re.search(r"v([\d.]+)", banner).group(1)

    def command(self):
        return [self.program(), "tail", "-n", "+1", "-F", self.live]


class Rsyslog(Follower):
    name = "rsyslog"
    package = "apt-get install rsyslog"
    mode, pattern = "inotify", "metrics.jsonl"

    CONFIGURATION = """
global(workDirectory="{work}/state" maxMessageSize="64k")
module(load="imfile" mode="{mode}"{polling})
template(name="line" type="string" string="%msg%\\n")
ruleset(name="metrics") {{
    action(type="omfile" file="{output}" template="line")
}}
input(type="imfile" file="{pattern}" tag="metrics" ruleset="metrics"
      addMetadata="off" persistStateInterval="1000")
"""

    def program(self):
        return shutil.which("rsyslogd", path=f"{os.environ['PATH']}:/usr/sbin")

    def version(self):
        done = subprocess.run([self.program(), "-v"], capture_output=True, text=True)
        return done.stdout.split()[1]

    def command(self):
        (self.work / "state").mkdir(exist_ok=True)
        polling = ' pollingInterval="1"' if self.mode == "polling" else ""
        configuration = self.CONFIGURATION.format(
            work=self.work, output=self.output, mode=self.mode, polling=polling, pattern=self.folder / self.pattern
        )
        (self.work / "rsyslog.conf").write_text(configuration)
        return [self.program(), "-n", "-f", self.work / "rsyslog.conf", "-i", self.work / "pid"]


class RsyslogPattern(Rsyslog):
    """imfile on a pattern that the sealed files match as well."""

    name = "rsyslog-pattern"
    lossless = False
    pattern = "metrics*.jsonl"


class RsyslogPolling(Rsyslog):
    name = "rsyslog-polling"
    lossless = False
    mode = "polling"


class SyslogNg(Follower):
    """syslog-ng. Debian has either rsyslog or syslog-ng installed, so this one may also be unpacked aside."""

    name = "syslog-ng"
    package = (
        "apt-get install syslog-ng-core, or beside rsyslog: apt-get install libivykis0 libnet1 libpcre3 libwrap0; "
        "apt-get download syslog-ng-core; dpkg -x syslog-ng-core_*.deb TOOLS/syslog-ng"
    )
    source = """wildcard-file(base-dir("{folder}") filename-pattern("metrics.jsonl") recursive(no)
        monitor-method("inotify") follow-freq(0.1) max-files(1000)
        log-iw-size(100000) log-fetch-limit(1000) log-msg-size(65536) flags(no-parse))"""

    CONFIGURATION = """
@version: 3.35
options {{ log-msg-size(65536); stats-freq(0); time-reap(10); }};
source s_metrics {{
    {source};
}};
destination d_lines {{ file("{output}" template("$MESSAGE\\n") log-fifo-size(200000)); }};
log {{ source(s_metrics); destination(d_lines); flags(flow-control); }};
"""

    def root(self):
        return self.tools / "syslog-ng"

    def program(self):
        beside = self.root() / "usr/sbin/syslog-ng"
        return str(beside) if beside.exists() else shutil.which("syslog-ng", path=f"{os.environ['PATH']}:/usr/sbin")

    def environment(self):
        return {**os.environ, "LD_LIBRARY_PATH": str(self.root() / "usr/lib/syslog-ng")}

    def version(self):
        done = subprocess.run([self.program(), "--version"], capture_output=True, text=True, env=self.environment())
        return re.search(r"\(([\d.]+)\)", done.stdout).group(1)

    def command(self):
        source = self.source.format(folder=self.folder)
        (self.work / "syslog-ng.conf").write_text(self.CONFIGURATION.format(source=source, output=self.output))
        modules = list((self.root() / "usr/lib/syslog-ng").glob("*.*/"))
        places = [f"--module-path={modules[0]}"] if modules else []
        for option, name in (("-f", "syslog-ng.conf"), ("-R", "persist"), ("-c", "control"), ("-p", "pid")):
            places += [option, self.work / name]
        return [self.program(), "-F", "--no-caps", *places]


class SyslogNgPattern(SyslogNg):
    """A pattern that the sealed files match as well: they are taken for new ones."""

    name = "syslog-ng-pattern"
    lossless = False
    source = SyslogNg.source.replace("metrics.jsonl", "metrics*.jsonl")


class SyslogNgPolling(SyslogNg):
    name = "syslog-ng-polling"
    lossless = False
    source = SyslogNg.source.replace("inotify", "poll")


class SyslogNgFile(SyslogNg):
    """The plain `file` source."""

    name = "syslog-ng-file"
    lossless = False
    source = """file("{folder}/metrics.jsonl" follow-freq(0.1)
        log-iw-size(100000) log-fetch-limit(1000) log-msg-size(65536) flags(no-parse))"""


class Scripted(Printing):
    """A few lines of a script around a library."""

    SCRIPT = ""
    file = ""

    def command(self):
        (self.work / self.file).write_text(self.SCRIPT)
        return [self.program(), self.work / self.file, self.live]


class Python(Scripted):
    file = "follow.py"
    module = ""

    def program(self):
        for python in (self.tools / "venv/bin/python", sys.executable):
            if pathlib.Path(python).exists():
                done = subprocess.run([python, "-c", f"import {self.module}"], capture_output=True)
                if done.returncode == 0:
                    return str(python)
        return None

    def version(self):
        code = f"import {self.module} as m; print(m.__version__)"
        return subprocess.run([self.program(), "-c", code], capture_output=True, text=True).stdout.strip()


class Pygtail(Python):
    name = "pygtail"
    module = "pygtail"
    package = "python3 -m venv TOOLS/venv && TOOLS/venv/bin/pip install pygtail"

    # The pattern is filled with the live file's name: of `metrics.jsonl` it takes the first seven letters.
    SCRIPT = """
import signal, sys, time
from pygtail import Pygtail

ending = False

def end(*_):
    # Not in the middle of a pass, whose lines would come again.
    global ending
    ending = True

signal.signal(signal.SIGTERM, end)

def follow(lines):
    try:
        for line in lines:
            sys.stdout.write(line)
    except FileNotFoundError:
        # Between the renaming of a file and the creation of the next: what was printed must be noted.
        lines.update_offset_file()

while not ending:
    try:
        follow(Pygtail(sys.argv[1], offset_file="offset", full_lines=True, encoding="utf-8",
                       log_patterns=["%.7s-*.jsonl"]))
    except FileNotFoundError:
        pass
    sys.stdout.flush()
    time.sleep(0.1)
"""


class Node(Scripted):
    file = "follow.js"

    def program(self):
        return shutil.which("node")


class NodeTail(Node):
    """The npm package: what it forgets at a rotation is told in docs/TAILING.md."""

    name = "node-tail"
    lossless = False
    package = "apt-get install nodejs npm && npm install --prefix TOOLS tail"

    SCRIPT = """
const fs = require('fs');
const {Tail} = require('tail');
const file = process.argv[2];
const start = () => {
  if (!fs.existsSync(file)) return setTimeout(start, 20);
  const tail = new Tail(file, {fromBeginning: true, follow: true});
  tail.on('line', line => process.stdout.write(line + '\\n'));
  tail.on('error', error => console.error(String(error)));
};
start();
"""

    def missing(self):
        return None if (self.tools / "node_modules/tail").exists() and self.program() else self.package

    def environment(self):
        return {**os.environ, "NODE_PATH": str(self.tools / "node_modules")}

    def version(self):
        return json.loads((self.tools / "node_modules/tail/package.json").read_text())["version"]


class NodeChild(Node):
    """What to use from Node instead."""

    name = "node-child"
    package = "apt-get install nodejs"

    SCRIPT = """
const {spawn} = require('child_process');
const lines = require('readline');
require('fs').writeFileSync('empty', '');
const options = {stdio: ['ignore', 'pipe', 'inherit']};
const tail = spawn('tail', ['-q', '-n', '+1', '-F', process.argv[2], 'empty'], options);
lines.createInterface({input: tail.stdout}).on('line', line => process.stdout.write(line + '\\n'));
process.on('SIGTERM', () => { tail.kill(); process.exit(0); });
"""


class DuckDb(Python):
    """Reads all files again and again. Its output is a line for each query."""

    name = "duckdb"
    module = "duckdb"
    package = "python3 -m venv TOOLS/venv && TOOLS/venv/bin/pip install duckdb"

    # The plain files are listed before the archived ones, so that one which moves meanwhile is in one list at least, and
    # of one that is in both the archived is read. A rotation between listing and reading shows in the second listing.
    SCRIPT = """
import json, os, sys, time
import duckdb

folder = os.path.dirname(sys.argv[1])
database = duckdb.connect()
database.execute("SET threads = 1")
database.execute('''
    CREATE MACRO log_files(folder) AS TABLE
    SELECT parse_filename(replace(file, '.zst', '')) AS name, min(file) AS file
    FROM (FROM glob(folder || '/metrics*.jsonl')
          UNION ALL FROM glob(folder || '/archive/metrics*.jsonl.zst'))
    GROUP BY name ORDER BY name
''')
QUERY = '''
    SELECT count(*), count(DISTINCT metadata.n),
           count(*) FILTER (md5(metadata.n || metadata.pad) = metadata.check
                            AND visitor_id = format('visitor-{:03d}', metadata.n % 997))
    FROM read_json($files, format = 'newline_delimited', columns = {
        visitor_id: 'VARCHAR', event: 'VARCHAR', timestamp: 'TIMESTAMPTZ',
        metadata: 'STRUCT(n BIGINT, "check" VARCHAR, odd VARCHAR, pad VARCHAR)', user_agent: 'VARCHAR'})
'''

def listed():
    return dict(database.execute("FROM log_files($folder)", {"folder": folder}).fetchall())

def query():
    while True:
        before = listed()
        row = database.execute(QUERY, {"files": list(before.values())}).fetchone()
        if listed().keys() == before.keys():
            return row

while True:
    try:
        rows, distinct, whole = query()
        said = {"rows": rows, "distinct": distinct, "whole": whole}
    except duckdb.Error as error:
        said = {"error": str(error)[:300]}
    print(json.dumps(said), flush=True)
    time.sleep(0.2)
"""
    # How many answers there must be before the last of them can be judged.
    answers_min = None

    def said(self):
        content = self.output.read_text() if self.output.exists() else ""
        return [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith("\n")]

    def caught_up(self, store):
        # The second answer from now on is that of a query which began after the server had stopped.
        said = len(self.said())
        self.answers_min = self.answers_min or said + 2
        return said >= self.answers_min

    def result(self, store):
        answers = self.said()
        counts = [answer["rows"] for answer in answers if "rows" in answer]
        last = answers[-1] if answers else {}
        result = Result(got=last.get("rows", 0))
        result.missing = store.count - last.get("distinct", 0)
        result.twice = last.get("rows", 0) - last.get("distinct", 0)
        result.damaged = sum(answer["rows"] - answer["whole"] for answer in answers if "rows" in answer)
        backwards = sum(after < before for before, after in zip(counts, counts[1:]))
        notes = [f"counts went down {backwards} times"] if backwards else []
        twice = sum(answer["rows"] != answer["distinct"] for answer in answers if "rows" in answer)
        notes += [f"{twice} queries had rows twice"] if twice else []
        result.note = ", ".join(notes)
        self.remark = f"{len(answers)} queries, {len(answers) - len(counts)} failed cleanly"
        return result


class DuckDbPattern(DuckDb):
    """The patterns as they are, without a look at the files after the query: what rotates meanwhile is not in it."""

    name = "duckdb-pattern"
    lossless = False
    SCRIPT = DuckDb.SCRIPT.replace("listed().keys() == before.keys()", "True")


FOLLOWERS = {
    kind.name: kind
    for kind in (
        Tail, Rsyslog, SyslogNg, Pygtail, NodeChild, DuckDb,
        DuckDbPattern, NodeTail, TailAlone, BusyboxTail, RsyslogPattern, RsyslogPolling, SyslogNgPattern, SyslogNgPolling, SyslogNgFile,
    )
}  # fmt: skip
DEFAULT = ["tail", "rsyslog", "syslog-ng", "pygtail", "node-child", "duckdb", "node-tail"]
