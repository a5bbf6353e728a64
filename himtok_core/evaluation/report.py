"""Results of an evaluation on drawn scenes as people read them: a Markdown table, JSON, pictures.

Knows the bars that the shipped model has to reach and nothing about how the scores came about.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..data.scenes import World, make_scene
from .scenes import KindScores, Outcome, TokenizerScores

COLUMNS = {
    "n": "count",
    "mean IoU": "mean_iou",
    "cIoU": "ciou",
    "box IoU": "box_iou",
    "box @0.5": "box_at_50",
    "box @0.75": "box_at_75",
    "accuracy": "accuracy",
    "none drawn": "missing",
}
# What the shipped model has to reach: kind of question -> (score, at least).
BARS = {"segment": ("mean_iou", 0.6), "box": ("box_iou", 0.6)}
TOKENIZER_BAR = 0.85  # mean IoU of the round trip with all tokens; and more tokens are never worse
CAPTION_HEIGHT = 64


def markdown(kinds: dict[str, KindScores], tokenizer: TokenizerScores) -> str:
    """Both tables, the bars beside the scores."""
    names = {value: key for key, value in COLUMNS.items()}
    lines = [
        "| mask tokens | " + " | ".join(str(length) for length in tokenizer.mean_iou) + " | bar |",
        "|---|" + "---|" * (len(tokenizer.mean_iou) + 1),
        f"| round trip, mean IoU of {tokenizer.count} masks | "
        + " | ".join(f"{value:.3f}" for value in tokenizer.mean_iou.values())
        + f" | {_verdict(_tokenizer_passes(tokenizer))} at least {TOKENIZER_BAR:.2f} with all, rising |",
        "",
        f"Codes used: {tokenizer.codes_used} of {tokenizer.codebook_size}, "
        f"perplexity {tokenizer.perplexity:.0f}.",
        "",
        "| question | " + " | ".join(COLUMNS) + " | bar |",
        "|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    for kind, scores in kinds.items():
        cells = [_cell(getattr(scores, attribute)) for attribute in COLUMNS.values()]
        bar = ""
        if kind in BARS:
            attribute, least = BARS[kind]
            passed = getattr(scores, attribute) >= least
            bar = f"{_verdict(passed)} {names[attribute]} at least {least:.2f}"
        lines.append(f"| {kind} | " + " | ".join(cells) + f" | {bar} |")
    return "\n".join(lines)


def write_json(
    path: Path,
    header: dict,
    outcomes: Sequence[Outcome],
    kinds: dict[str, KindScores],
    tokenizer: TokenizerScores,
) -> None:
    """Everything that was measured, single questions too; a score that a kind does not have is null."""
    questions = [
        {
            "kind": outcome.question.kind,
            "seed": outcome.seed,
            "prompt": outcome.question.prompt,
            "expected": outcome.question.answer,
            "reply": outcome.reply.text,
            "score": outcome.score,
            "box_iou": outcome.box_iou,
            "correct": outcome.correct,
            "seconds": round(outcome.seconds, 4),
        }
        for outcome in outcomes
    ]
    result = {
        **header,
        "tokenizer": asdict(tokenizer),
        "kinds": {kind: _without_nan(asdict(scores)) for kind, scores in kinds.items()},
        "questions": questions,
    }
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_worst(folder: Path, outcomes: Sequence[Outcome], world: World, most: int = 24) -> list[Path]:
    """The worst replies as pictures: the true mask outlined in green, the reply's mask and box in red."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    worst = sorted(outcomes, key=lambda outcome: outcome.score)[:most]
    for place, outcome in enumerate(outcome for outcome in worst if outcome.score < 0.9):
        path = folder / f"{place:02d}_{outcome.question.kind}_{outcome.seed}.png"
        picture = make_scene(outcome.seed, world).picture
        _draw(picture, outcome).save(path)
        written.append(path)
    return written


def _draw(picture: Image.Image, outcome: Outcome) -> Image.Image:
    pixels = np.asarray(picture).astype(np.float32)
    for item in outcome.reply.objects:
        if item.mask is not None:
            pixels[item.mask] = 0.4 * pixels[item.mask] + 0.6 * np.array([230, 40, 40])
    for mask in (*outcome.question.answer_masks, *outcome.question.prompt_masks):
        pixels[_outline(mask)] = (0, 220, 60)
    scale = 3
    drawn = Image.fromarray(pixels.astype(np.uint8))
    drawn = drawn.resize((scale * drawn.width, scale * drawn.height), Image.Resampling.NEAREST)
    for item in outcome.reply.objects:
        if item.box is not None:
            corners = [scale * value for value in item.box]
            ImageDraw.Draw(drawn).rectangle(corners, outline=(230, 40, 40), width=2)
    page = Image.new("RGB", (max(drawn.width, 480), drawn.height + CAPTION_HEIGHT), "white")
    page.paste(drawn, (0, 0))
    lines = (
        outcome.question.prompt,
        f"expected: {outcome.question.answer}",
        f"reply: {_short(outcome.reply.text)}",
        f"score {outcome.score:.2f}",
    )
    text = "\n".join(line.replace("\n", " ")[:78] for line in lines)
    ImageDraw.Draw(page).multiline_text((4, drawn.height + 3), text, fill="black", spacing=2)
    return page


def _outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask that have a neighbour outside it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _short(text: str) -> str:
    """A reply with its mask runs cut to their beginning."""
    start, end = text.find("<|mt_start|>"), text.find("<|mt_end|>")
    return text if start < 0 else f"{text[:start]}<mask>{text[end + 10 :] if end >= 0 else '...'}"


def _tokenizer_passes(tokenizer: TokenizerScores) -> bool:
    values = list(tokenizer.mean_iou.values())
    return values[-1] >= TOKENIZER_BAR and values == sorted(values)


def _verdict(passed: bool) -> str:
    return "met:" if passed else "missed:"


def _cell(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.3f}"


def _without_nan(scores: dict) -> dict:
    return {name: None if math.isnan(value) else value for name, value in scores.items()}
