"""docs/BENCHMARKS.md and its plots, from what was measured. What stands outside the marks is written by hand and stays."""

import statistics

from comparing import plot
from comparing.peers import FLOODGATE, LATENCY_ONLY, PEERS, SHAPES, YARDSTICK
from measuring import ROOT

PAGE, PLOTS = ROOT / "docs/BENCHMARKS.md", ROOT / "docs/benchmarks"


def marks(name):
    return f"<!-- {name}: written by a script -->\n", f"<!-- end of {name} -->\n"


def replace(name, text):
    """Puts a text between its marks on the page."""
    begin, end = marks(name)
    page = PAGE.read_text()
    if begin not in page or end not in page:
        raise SystemExit(f"{PAGE} has no marks for {name}")
    before, rest = page.split(begin, 1)
    PAGE.write_text(before + begin + text + end + rest.split(end, 1)[1])


def three(runs, key):
    """Least, median and most."""
    values = [run[key] for run in runs]
    return min(values), statistics.median(values), max(values)


def mib(count):
    return f"{count / 2**20:,.0f} MiB"


def class_of(name):
    return "a" if name in FLOODGATE else "other"


def throughput(shape, found):
    what, *_, events, names = SHAPES[shape]
    measured = {name: found["runs"][name] for name in names if name in found["runs"]}
    costs = {name: three(runs, "cpu_us") for name, runs in measured.items()}
    base = YARDSTICK if YARDSTICK in costs else "journaled"
    lines = [f"### {what[0].upper()}{what[1:]}\n", f"![CPU time of the server, an event](benchmarks/{shape}.svg)\n",
             f"| server | CPU an event (range) | ratio | events a second | server's core | peak memory |", "|---|---|---|---|---|---|"]
    for name, (least, median, most) in costs.items():
        _, rate, _ = three(measured[name], "events_per_second")
        _, cores, _ = three(measured[name], "cores")
        lines.append(f"| {PEERS[name][0]} | {median:.3g} µs ({least:.3g}–{most:.3g}) | {median / costs[base][1]:.2f} | "
                     f"{rate:,.0f} | {cores:.0%} | {mib(max(run['memory_bytes'] for run in measured[name]))} |")
    rows = [(PEERS[name][0], [(class_of(name), *cost)]) for name, cost in costs.items()]
    (PLOTS / f"{shape}.svg").write_text(plot.dots(f"CPU time of the server, an event; {what}", "µs", rows))
    rounds = len(next(iter(measured.values())))
    bound = ("The rate is the load's: here servers are compared that are all as busy as their events make them." if shape == "paced" else
             "Where the server's core is well below 100 %, something else was the bound (the load's core, another program, the disk), and "
             "the rate is not the server's highest.")
    note = (f"\nRatio to {PEERS[base][0]}. Median of {rounds} {'round' if rounds == 1 else 'rounds'}. {bound} Peak memory is VmHWM, mapped "
            "files included: of Floodgate's it is mostly the journal, which grows while the log rests before it is sealed, and shrinks later.\n")
    return "\n".join(lines) + "\n" + note + "\n"


def latency(found):
    out = ["### Latency\n", "Singles on 64 connections in an open loop: requests are sent by the clock, whatever the server does, and a latency "
           "counts from when the request was to be sent. Each second the log is synced; a default file would be sealed every 20 seconds.\n"]
    for which, title in (("common", "at half of the lowest peer's highest rate"), ("own", "at half of its own highest rate")):
        measured = {name: runs[which] for name, runs in found["runs"].items() if which in runs}
        out += [f"![Latency {title}](benchmarks/latency-{which}.svg)\n", f"| {title} | requests a second | p50 | p99 | p99.9 | longest |",
                "|---|---|---|---|---|---|"]
        rows = []
        names = PEERS | LATENCY_ONLY
        for name in (name for name in names if name in measured):
            figures = {key: three(measured[name], f"{key}_us") for key in ("p50", "p99", "p99_9", "max")}
            _, rate, _ = three(measured[name], "answered_per_second")
            out.append(f"| {names[name][0]} | {rate:,.0f} | " + " | ".join(
                f"{plot.number(figures[key][1] / 1000)} ms" for key in figures) + " |")
            rows.append((names[name][0], [(mark, *(max(value, 1) / 1000 for value in figures[key]))
                                          for mark, key in (("a", "p50"), ("b", "p99"), ("c", "p99_9"))]))
        svg = plot.dots(f"Latency {title}", "ms", rows, [("a", "p50"), ("b", "p99"), ("c", "p99.9")])
        (PLOTS / f"latency-{which}.svg").write_text(svg)
        out.append("")
    return "\n".join(out) + "\n"


def write(pieces):
    """Writes the comparison into the page."""
    found = {name: piece for name, piece in pieces.items() if piece}
    if not found:
        raise SystemExit("nothing was measured yet")
    PLOTS.mkdir(exist_ok=True)
    newest = max(found.values(), key=lambda piece: piece["measured"])
    text = ["", f"Machine: {newest['machine']}. A virtual machine with other guests: ratios count more than figures.\n",
            "| piece | measured | load average before | command |", "|---|---|---|---|"]
    text += [f"| {name} | {piece['measured']} | {piece['load_average']:.2f} | `{piece['command']}` |" for name, piece in found.items()]
    text += ["", "Versions: " + "; ".join(f"{name} {version}" for name, version in newest["versions"].items()) + ".\n",
             "| server | what its 202 means |", "|---|---|", *(f"| {name} | {meaning} |" for name, meaning in PEERS.values()), "", ""]
    text = "\n".join(text)
    text += "".join(throughput(shape, found[shape]) for shape in SHAPES if shape in found)
    if "latency" in found:
        text += latency(found["latency"])
    replace("comparison", text)
