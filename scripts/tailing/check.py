"""What is stored, and what a tailer made of it."""

import collections
import dataclasses
import re
import subprocess

from tailing.server import number_of

LINE_FEED = b"\n"
SEALED = re.compile(r"metrics-.+-(\d+)\.jsonl(\.zst)?")


@dataclasses.dataclass
class Result:
    """How one tailer's lines compare with the stored ones."""

    got: int
    missing: int = 0
    twice: int = 0
    damaged: int = 0
    # Lines that came before a line that is above them in the same file.
    disordered: int = 0
    note: str = ""
    # Of which files lines are missing, for who wants to know why.
    where: str = ""

    def faultless(self, ordered):
        return not (self.missing or self.twice or self.damaged or (ordered and self.disordered) or self.note)


class Store:
    """All lines of all files, in the log's order: the sealed ones, plain or compressed, then the live one."""

    def __init__(self, folder):
        self.files, self.compressed = [], 0
        sealed = {}
        for path in sorted([*folder.glob("metrics-*.jsonl"), *folder.glob("archive/**/metrics-*.jsonl.zst")]):
            if found := SEALED.fullmatch(path.name):
                # A file that was being compressed when the server stopped may be there in both shapes.
                sealed.setdefault(int(found.group(1)), path)
                self.compressed += found.group(2) is not None
        for _, path in sorted(sealed.items()):
            self.files.append((path, read(path)))
        live = folder / "metrics.jsonl"
        if live.exists():
            self.files.append((live, read(live)))
        self.size = sum(len(content) for _, content in self.files)
        # Of each line its file and its place there. No two lines are the same: each has its number.
        self.places = {}
        self.count = 0
        for at, (_, content) in enumerate(self.files):
            for line_at, line in enumerate(content.split(b"\n")[:-1]):
                self.places[line] = (at, line_at)
                self.count += 1

    def faults(self, load):
        """Sentences about what the server did wrong, if anything: lost, twice, damaged, invented."""
        found, faults = collections.Counter(), []
        for path, content in self.files:
            if content and not content.endswith(b"\n"):
                faults.append(f"{path.name} does not end with a line feed")
            for line in content.split(b"\n")[:-1]:
                try:
                    found[number_of(line)] += 1
                except (ValueError, KeyError, TypeError) as error:
                    faults.append(f"{path.name}: {error}: {line[:200]}")
        lost = [number for number in load.acknowledged if number not in found]
        twice = [number for number, times in found.items() if times > 1]
        invented = set(found) - set(load.posted)
        for what, numbers in (("acknowledged but not stored", lost), ("stored twice", twice), ("never posted", invented)):
            if numbers:
                faults.append(f"{len(numbers)} events {what}, among them {sorted(numbers)[:5]}")
        return faults

    def compare(self, lines):
        """Compares a tailer's lines, in the order in which it gave them, with the stored ones."""
        times = collections.Counter(lines)
        result = Result(got=len(lines))
        missing = collections.defaultdict(list)
        for line, (file_at, line_at) in self.places.items():
            if line not in times:
                missing[file_at].append(line_at)
        result.missing = sum(map(len, missing.values()))
        result.where = ", ".join(
            f"{path.name} lacks {len(lines)} of {content.count(LINE_FEED)} lines, from {min(lines)} to {max(lines)}"
            for (path, content), lines in ((self.files[at], missing[at]) for at in sorted(missing)[:5])
        )
        result.twice = sum(count - 1 for line, count in times.items() if line in self.places)
        result.damaged = sum(count for line, count in times.items() if line not in self.places)
        last = {}
        for line in lines:
            if place := self.places.get(line):
                result.disordered += last.get(place[0], -1) > place[1]
                last[place[0]] = place[1]
        return result


def read(path):
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True).stdout
    return path.read_bytes()
