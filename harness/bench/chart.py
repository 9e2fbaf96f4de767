"""Draws a bench as bars in SVG: what an operation costs beside each monitor, as multiples of no monitor."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from harness.bench import figures
from harness.bench.figures import Row
from harness.bench.model import Bench
from harness.bench.monitors import NONE

SHOWN = ("open", "create", "watched", "find", "git", "build")  # workloads, if they were measured

_WIDTH, _LABEL, _BAR, _GAP, _TITLE = 800, 130, 14, 4, 34
_SCALE_END = 6.0  # longer bars are cut and have their number
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.t{font-weight:600}.p{fill:#3b6ea5}.o{fill:#c9803a}"
    ".g{stroke:#888;stroke-dasharray:2 3}@media(prefers-color-scheme:dark){text{fill:#ddd}}"
)


def svg(bench: Bench) -> str:
    """Return the chart: for each monitor the program's own part, then everything else."""
    parts: list[str] = []
    y = 24
    for workload in (name for name in SHOWN if name in bench.workloads):
        shown = [row for row in figures.rows(bench, workload) if not row.unable]
        plain = next((row.total for row in shown if row.monitor == NONE), 0.0)
        if plain:
            y = _group(parts, f"{workload}: {bench.workloads[workload].about}", shown, plain, y)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}">'
    )
    legend = (
        f'<text x="0" y="14">{escape(bench.release)}: CPU of the program (blue) and of everything else '
        "(orange), as multiples of no monitor</text>"
    )
    return "\n".join([head, f"<style>{_STYLE}</style>", legend, *parts, "</svg>"]) + "\n"


def _group(parts: list[str], title: str, rows: Sequence[Row], plain: float, y: int) -> int:
    parts.append(f'<text class="t" x="0" y="{y + 20}">{escape(title)}</text>')
    y += _TITLE
    unit = (_WIDTH - _LABEL - 60) / _SCALE_END
    line = _LABEL + unit
    parts.append(
        f'<line class="g" x1="{line:.0f}" x2="{line:.0f}" y1="{y}" y2="{y + len(rows) * (_BAR + _GAP)}"/>'
    )
    for row in rows:
        whole = min(row.total / plain, _SCALE_END)
        own = min(row.program / plain, whole)
        parts.append(f'<text x="0" y="{y + 11}">{escape(row.monitor)}</text>')
        parts.append(_bar("p", _LABEL, own * unit, y))
        parts.append(_bar("o", _LABEL + own * unit, (whole - own) * unit, y))
        end = _LABEL + whole * unit + 6
        parts.append(f'<text x="{end:.0f}" y="{y + 11}">{row.total / plain:.2f}</text>')
        y += _BAR + _GAP
    return y


def _bar(kind: str, x: float, width: float, y: int) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y}" width="{max(0.0, width):.1f}" height="{_BAR}"/>'
