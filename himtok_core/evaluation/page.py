"""The worst and the best cases of a run as one HTML page that needs nothing beside itself.

Knows how a case is drawn and written down: true masks outlined in green, the reply's masks and boxes in red.
Whatever a model or a data set wrote is escaped. Which cases there are is the choice of whoever ran it.
"""

import base64
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ..data.coco import mask_of
from .segmentation import boundary

SIDE = 360  # longest side of a drawn picture in pixels
QUALITY = 80  # of its JPEG
MOST_TEXT = 2000  # characters of a text that are shown
RED, GREEN = (230, 40, 40), (0, 220, 60)
# Of a row: drawn, or written elsewhere.
HIDDEN = {"masks", "boxes", "labels", "tokens", "prompt", "reply", "size", "id", "score"}

_RUN = re.compile(r"<\|mt_start\|>.*?(?:<\|mt_end\|>|$)", re.S)
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
  background: #fff; color: #1c1c1e }
.cases { display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)) }
figure { margin: 0; border: 1px solid #ddd; border-radius: 6px; padding: .6rem; overflow-wrap: anywhere }
img { max-width: 100%; display: block; margin: 0 auto .5rem }
table { border-collapse: collapse } td, th { padding: .15rem .8rem .15rem 0; text-align: left }
small { color: #555 } .true { color: #087a2c } .said { color: #b01e1e }
"""


@dataclass(frozen=True, eq=False)
class Case:
    """One sample to show. row: as in the row file. picture: RGB, or None. truth: bool [H, W] each."""

    row: dict
    picture: Image.Image | None
    truth: Sequence[np.ndarray]


def write(title: str, facts: dict[str, object], worst: Sequence[Case], best: Sequence[Case]) -> str:
    """The page as text: a heading, a table of facts (scores, model, protocol), and two rows of cases."""
    name = html.escape(title)
    table = "".join(f"<tr><th>{_text(key)}</th><td>{_text(value)}</td></tr>" for key, value in facts.items())
    sections = "".join(
        f'<h2>{heading}</h2><div class="cases">{"".join(_figure(case) for case in cases)}</div>'
        for heading, cases in (("Worst", worst), ("Best", best))
        if cases
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f'<body><h1>{name}</h1><table>{table}</table><p><span class="true">Green outline</span>: the truth. '
        f'<span class="said">Red</span>: the reply.</p>\n{sections}</body></html>\n'
    )


def draw(case: Case) -> Image.Image | None:
    """The picture of a case with its masks and boxes, at most SIDE pixels wide and high; None without any.

    Large ones are made smaller, small ones larger by a whole number.
    """
    masks = [rle for rle in case.row.get("masks", []) if rle is not None]
    if case.picture is not None:
        size = case.picture.size
        pixels = np.asarray(case.picture).astype(np.float32)
    elif case.truth or masks:
        height, width = case.truth[0].shape if case.truth else masks[0]["size"]
        size, pixels = (width, height), np.full((height, width, 3), 235, dtype=np.float32)
    else:
        return None
    for rle in masks:
        mask = mask_of(rle, size)
        pixels[mask] = 0.45 * pixels[mask] + 0.55 * np.array(RED)
    scale = SIDE / max(size) if max(size) > SIDE else SIDE // max(size)
    shown = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    how = Image.Resampling.BICUBIC if scale < 1 else Image.Resampling.NEAREST
    outlined = np.asarray(Image.fromarray(pixels.astype(np.uint8)).resize(shown, how)).copy()
    for mask in case.truth:
        # Outlined at the shown size, or a thin line would be lost.
        outlined[boundary(np.asarray(Image.fromarray(mask).resize(shown)))] = GREEN
    drawn = Image.fromarray(outlined)
    for box in case.row.get("boxes", []):
        if box is not None:
            ImageDraw.Draw(drawn).rectangle([value * scale for value in box], outline=RED, width=2)
    return drawn


def _figure(case: Case) -> str:
    row = case.row
    drawn = draw(case)
    parts = [] if drawn is None else [f'<img alt="" src="{_data_uri(drawn)}">']
    parts.append(f"<b>{row['score']:.3f}</b> <small>{_text(row['id'])}</small><br>")
    parts.append(f"{_text(row.get('prompt') or '')}<br>")
    parts.append(f'<span class="said">{_text(row.get("reply") or "")}</span><br>')
    numbers = {key: value for key, value in row.items() if key not in HIDDEN and value not in (None, [], "")}
    if numbers:
        parts.append(f"<small>{_text(numbers)}</small>")
    return f"<figure>{''.join(parts)}</figure>"


def _text(value: object) -> str:
    """Anything as HTML text, mask runs cut short."""
    return html.escape(_RUN.sub("⟨mask⟩", _short(value)))


def _short(value: object) -> str:
    if value is None or value != value:  # None stands for nan where a row was read from disk
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        value = ", ".join(f"{name} {_short(item)}" for name, item in value.items())
    elif isinstance(value, list | tuple):
        value = " ".join(_short(item) for item in value)
    text = str(value)
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
