"""Plots as SVG: dots on a logarithmic axis, a row for each server. Readable in light and dark, without a script or a font.

A picture in a page is told which of both the system prefers, not how the page looks, which may differ (on GitHub it is a setting of its
own). So it brings its ground with it.
"""

import html
import math

LEFT, RIGHT, TOP, ROW, BOTTOM, WIDTH = 230, 90, 58, 26, 44, 860
STYLE = """
.ground { fill: #ffffff }
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 15px } .note { fill: #57606a; font-size: 12px }
.grid { stroke: #d0d7de } .range { stroke-width: 3; stroke-linecap: round; opacity: .45 }
.a { fill: #0969da; stroke: #0969da } .b { fill: #bc4c00; stroke: #bc4c00 } .c { fill: #8250df; stroke: #8250df }
.other { fill: #6e7781; stroke: #6e7781 }
@media (prefers-color-scheme: dark) {
  .ground { fill: #0d1117 }
  text { fill: #e6edf3 } .note { fill: #9198a1 } .grid { stroke: #3d444d }
  .a { fill: #4493f8; stroke: #4493f8 } .b { fill: #f0883e; stroke: #f0883e } .c { fill: #ab7df8; stroke: #ab7df8 }
  .other { fill: #9198a1; stroke: #9198a1 }
}
"""


def ticks(low, high):
    """1, 2 and 5 of each power of ten between two numbers."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 300 else (1,)
    return [step * 10**power for power in powers for step in steps if low <= step * 10**power <= high]


def number(value):
    """A number with three digits that mean something."""
    if value >= 1e8:
        return f"{value / 1e6:,.0f} M"
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def dots(title, unit, rows, legend=()):
    """A plot. `rows` are (label, [(class of the mark, low, middle, high)]); `legend` are (class, label)."""
    values = [value for _, marks in rows for _, *three in marks for value in three]
    low, high = min(values) / 1.3, max(values) * 1.3
    height = TOP + ROW * len(rows) + BOTTOM

    def across(value):
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(value / low) / math.log(high / low)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(title)}">',
           f"<style>{STYLE}</style>", '<rect class="ground" width="100%" height="100%" rx="6"/>', f'<text class="title" x="12" y="24">{html.escape(title)}</text>']
    at = 12
    for mark, label in legend:
        out.append(f'<circle class="{mark}" cx="{at + 5}" cy="42" r="5"/><text class="note" x="{at + 16}" y="46">{label}</text>')
        at += 40 + 7 * len(label)
    bottom = TOP + ROW * len(rows)
    for tick in ticks(low, high):
        x = across(tick)
        out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
                   f'<text class="note" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{number(tick)}</text>')
    out.append(f'<text class="note" x="{WIDTH - RIGHT}" y="{bottom + 34}" text-anchor="end">{html.escape(unit)}, logarithmic</text>')
    for place, (label, marks) in enumerate(rows):
        y = TOP + ROW * place + ROW / 2
        out.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{html.escape(label)}</text>')
        for mark, least, middle, most in marks:
            out.append(f'<line class="{mark} range" x1="{across(least):.1f}" x2="{across(most):.1f}" y1="{y}" y2="{y}"/>'
                       f'<circle class="{mark}" cx="{across(middle):.1f}" cy="{y}" r="5"/>')
        rightmost = max(marks, key=lambda mark: mark[3])
        out.append(f'<text x="{across(rightmost[3]) + 10:.1f}" y="{y + 4}">{number(rightmost[2])}</text>')
    return "\n".join([*out, "</svg>\n"])
