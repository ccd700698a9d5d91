"""The server under test, and the load it gets: events with a number each, so that every one of them can be accounted for."""

import hashlib
import http.client
import itertools
import json
import os
import random
import re
import signal
import subprocess
import threading
import time

SINGLE, BATCH = "/api/metrics/event", "/api/metrics/events/batch"
# How long a start, a stop or an answer may take on a busy machine.
PATIENCE = 30.0
# What tailers have been seen to stumble over: escapes, format characters, quotes, other scripts, an emoji, white space.
ODD = ['\\n\\t\\\\', '%msg% $MESSAGE ${x}', '\\"quoted\\"', 'grüße, 你好, 😀', '  spaces  ', '\\u0000\\u001b', "it's", '<13>1 -']


class Server:
    """Floodgate on a port of its own choice, which a kill -9 and a restart change."""

    def __init__(self, command, folder, settings):
        self.command, self.folder, self.settings = command, folder, settings
        self.starts = 0
        self.address = None
        self.process = None

    def start(self):
        self.starts += 1
        messages = self.folder / f"messages-{self.starts}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("METRICS_")}
        with open(messages, "w") as stderr:
            self.process = subprocess.Popen(self.command, env={**inherited, **self.settings}, stderr=stderr)
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(r'"address":"([^"]+)"', messages.read_text())):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit(f"the server does not listen: {messages.read_text()}")
            time.sleep(0.01)
        self.address = found.group(1)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def rotate(self):
        self.process.send_signal(signal.SIGUSR1)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if (status := self.process.wait(timeout=PATIENCE)) != 0:
            raise SystemExit(f"the server ended with {status}: {(self.folder / f'messages-{self.starts}').read_text()}")


class Load:
    """Threads that post over keep-alive connections, batches and singles in turn, at a rate for all of them together.

    `posted` has the numbers of all events that left, `acknowledged` those whose 202 came back.
    """

    THREADS = 3

    def __init__(self, server, rate, seed):
        self.server, self.rate, self.seed = server, rate, seed
        self.numbers = itertools.count(1)
        self.posted, self.acknowledged, self.surprises = [], [], []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(place,)) for place in range(self.THREADS)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def post_one(self):
        """Posts one event, before the others, and waits until it is in the file."""
        number = next(self.numbers)
        self.posted.append(number)
        connection = http.client.HTTPConnection(self.server.address, timeout=PATIENCE)
        connection.request("POST", f"{SINGLE}?ack=written", event(number, random.Random(self.seed)))
        if (status := connection.getresponse().status) != 202:
            raise SystemExit(f"the first event is answered {status}")
        self.acknowledged.append(number)
        connection.close()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _run(self, place):
        dice = random.Random(f"{self.seed}-{place}")
        connection, address = None, None
        began, sent = time.monotonic(), 0
        while not self.stopping.is_set():
            ahead = sent / (self.rate / self.THREADS) - (time.monotonic() - began)
            if ahead > 0:
                self.stopping.wait(min(ahead, 0.2))
                continue
            if dice.random() < 0.5:
                path, size = SINGLE, 1
            else:
                path, size = BATCH, dice.randint(1, 400)
            numbers = [next(self.numbers) for _ in range(size)]
            body = b"\n".join(event(number, dice) for number in numbers)
            sent += size
            self.posted += numbers
            try:
                if connection is None or address != self.server.address:
                    address = self.server.address
                    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
                connection.request("POST", path, body)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException):
                # The server was killed: nobody knows whether these events were taken, and they are not sent again.
                connection = None
                time.sleep(0.02)
                continue
            if answer.status == 202:
                self.acknowledged += numbers
            elif answer.status != 503:
                self.surprises.append(f"{answer.status} {text[:200]}")


def event(number, dice):
    """An event that carries its number and a checksum of what is in it, mostly short, now and then almost 30 KiB."""
    size = dice.randint(2_000, 28_000) if dice.random() < 0.005 else dice.randint(0, 300)
    pad = hashlib.md5(b"%d" % number).hexdigest() * (size // 32)
    check = hashlib.md5(f"{number}{pad}".encode()).hexdigest()
    return (
        f'{{"visitor_id":"visitor-{number % 997:03}","event":"view-{number % 7}",'
        f'"metadata":{{"n":{number},"check":"{check}","odd":"{dice.choice(ODD)}","pad":"{pad}"}}}}'
    ).encode()


def number_of(line):
    """The number in a stored line that is whole and says what was posted; raises ValueError or KeyError otherwise."""
    fields = json.loads(line)
    metadata = fields["metadata"]
    if hashlib.md5(f"{metadata['n']}{metadata['pad']}".encode()).hexdigest() != metadata["check"]:
        raise ValueError("the checksum differs")
    return metadata["n"]
