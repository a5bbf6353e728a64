"""Line charts as SVG text. Written by hand: machines that train and measure seldom have a library for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT, _EDGE, _HEAD = 420, 200, 44, 24  # of a panel, of what is around its plot, of its title
_COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
_ENDS_HERE = 'text-anchor="end"'


@dataclass(frozen=True)
class Panel:
    """One plot.

    Attributes:
        title: above it. lines: name -> points (x, y), x from 0 on.
        ticks: what is written below the axis: x -> text, the largest last.
    """

    title: str
    lines: dict[str, list[tuple[float, float]]]
    ticks: dict[float, str]


def chart(rows: Sequence[Sequence[Panel]]) -> str:
    """An SVG picture of panels in rows."""
    parts = [
        part
        for row, panels in enumerate(rows)
        for column, panel in enumerate(panels)
        for part in _drawn(panel, column * (_WIDTH + _EDGE), row * (_HEIGHT + _HEAD + _EDGE))
    ]
    width, height = max(map(len, rows)) * (_WIDTH + _EDGE), len(rows) * (_HEIGHT + _HEAD + _EDGE)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="11"><rect width="{width}" height="{height}" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _drawn(panel: Panel, left: float, top: float) -> list[str]:
    """Its elements, with the top left corner of all of it at (left, top)."""
    left, top = left + _EDGE, top + _HEAD
    width, height = _WIDTH - _EDGE, _HEIGHT
    parts = [
        _text(left, top - 8, panel.title, 'font-weight="bold"'),
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>',
    ]
    points = [point for line in panel.lines.values() for point in line]
    if not points:
        return parts
    last = max(x for x, _ in points)
    # What falls steeply in the first tenth would press the rest flat: it is cut off at the top.
    low, high = min(0.0, *(y for _, y in points)), max(y for x, y in points if x >= last / 10)
    high, last = high if high > low else low + 1, last or 1
    for share in (0, 0.5, 1):
        y = top + (1 - share) * height
        parts.append(_text(left - 4, y + 4, f"{low + share * (high - low):.3g}", _ENDS_HERE))
    for x, label in panel.ticks.items():
        parts.append(_text(left + width * x / last, top + height + 14, label, _ENDS_HERE if x else ""))
    for number, (name, line) in enumerate(panel.lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        drawn = " ".join(
            f"{left + width * x / last:.1f},{top + height * (high - min(y, high)) / (high - low):.1f}"
            for x, y in line
        )
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        below = top + height - 6 - 13 * number
        parts.append(_text(left + width - 6, below, name, f'{_ENDS_HERE} fill="{colour}"'))
    return parts


def _text(x: float, y: float, text: str, attributes: str) -> str:
    return f'<text x="{x}" y="{y}" {attributes}>{escape(text)}</text>'
