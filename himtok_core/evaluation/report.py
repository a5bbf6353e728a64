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

from ..data.scenes import make_scene
from ..data.world import World
from .bars import Bar
from .charts import Panel, chart
from .scene_tokenizer import TokenizerScores
from .scenes import KEPT, KindScores, Outcome

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
CAPTION_HEIGHT = 64


def markdown(
    bars: Sequence[Bar],
    kinds: dict[str, KindScores],
    scenes: TokenizerScores,
    photos: TokenizerScores,
    answers: TokenizerScores,
) -> str:
    """The bars, masks by number of tokens, and every row by kind.

    Args:
        answers: masks of the answers to "segment", drawn from their first tokens.
    """
    lines = ["| what | n | score | bar | |", "|---|---|---|---|---|"]
    for bar in bars:
        bound = f"{'at most' if bar.at_most else 'at least'} {_number(bar.bound, bar.unit)}"
        verdict = {True: "met", False: "missed", None: "not measured"}[bar.met]
        score = "" if bar.met is None else _number(bar.value, bar.unit)
        lines.append(f"| {bar.what} | {bar.n} | {score} | {bound} | {verdict} |")
    measured_on = by_length(scenes, photos, answers)
    lengths = " | ".join(str(length) for length in scenes.mean_iou)
    lines += [
        "",
        f"| mean IoU by number of tokens | n | {lengths} |",
        "|---|---|" + "---|" * len(scenes.mean_iou),
    ]
    for name, measured in measured_on.items():
        cells = " | ".join(_cell(value) for value in measured.mean_iou.values())
        lines.append(f"| {name} | {measured.count} | {cells} |")
    lines += ["", "| question | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for kind, scores in kinds.items():
        cells = [_cell(getattr(scores, attribute)) for attribute in COLUMNS.values()]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def by_length(
    scenes: TokenizerScores, photos: TokenizerScores, answers: TokenizerScores
) -> dict[str, TokenizerScores]:
    """What was drawn from its first tokens, by name."""
    return {
        "answers to segment": answers,
        "round trip, scenes' masks": scenes,
        "round trip, photographs' masks": photos,
    }


def length_chart(measured_on: dict[str, TokenizerScores]) -> str:
    """Mean IoU against the number of tokens as an SVG picture (the paper's figure 9); every doubling is a
    step.
    """
    lines = {
        name: [(math.log2(length), iou) for length, iou in measured.mean_iou.items() if not math.isnan(iou)]
        for name, measured in measured_on.items()
    }
    lengths = {length for measured in measured_on.values() for length in measured.mean_iou}
    ticks = {math.log2(length): str(length) for length in sorted(lengths)}
    return chart([[Panel("mean IoU by number of mask tokens", lines, ticks)]])


def write_json(
    path: Path,
    header: dict,
    outcomes: Sequence[Outcome],
    bars: Sequence[Bar],
    kinds: dict[str, KindScores],
    scenes: TokenizerScores,
    photos: TokenizerScores,
    answers: TokenizerScores,
) -> None:
    """Everything that was measured, single questions too; a score that a kind does not have is null."""
    questions = [
        {
            "kind": outcome.question.kind,
            "group": outcome.group,
            "seed": outcome.seed,
            "prompt": outcome.question.prompt,
            "expected": outcome.question.answer,
            "reply": outcome.reply.text,
            "score": outcome.score,
            "box_iou": outcome.box_iou,
            "correct": outcome.correct,
        }
        for outcome in outcomes
    ]
    result = {
        **header,
        "bars": [{**_without_nan(asdict(bar)), "met": bar.met} for bar in bars],
        "tokenizer": {"scenes": asdict(scenes), "photographs": asdict(photos)},
        "answers": {**asdict(answers), "mean_iou": _without_nan(answers.mean_iou)},
        "kinds": {kind: _without_nan(asdict(scores)) for kind, scores in kinds.items()},
        "questions": questions,
    }
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_worst(folder: Path, outcomes: Sequence[Outcome], worlds: dict[str, World]) -> list[Path]:
    """The worst replies as pictures: the true mask outlined in green, the reply's mask and box in red.

    Args:
        worlds: of each group of outcomes, what its scenes were made of.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    worst = sorted(outcomes, key=lambda outcome: outcome.score)[:KEPT]
    for place, outcome in enumerate(outcome for outcome in worst if outcome.score < 0.9):
        path = folder / f"{place:02d}_{outcome.question.kind}_{outcome.seed}.png"
        picture = make_scene(outcome.seed, worlds[outcome.group]).picture
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


def _number(value: float, unit: str) -> str:
    return {"": f"{value:.3f}", "codes": f"{value:.0f}", "s": f"{value:.2f} s", "MB": f"{value:.1f} MB"}[unit]


def _cell(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.3f}"


def _without_nan(scores: dict) -> dict:
    return {n: None if isinstance(v, float) and math.isnan(v) else v for n, v in scores.items()}
