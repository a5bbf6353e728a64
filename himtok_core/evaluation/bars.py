"""What the shipped model has to reach on drawn scenes, and whether it does.

Knows the bars and which outcomes count for which. How the scores came about is left to `scenes` and
`scene_tokenizer`, the tables to `report`.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..data.questions import MASK, Question
from . import metrics
from .scene_tokenizer import TokenizerScores
from .scenes import Outcome, denies, scores_of

BY_PLACE = ("segment_position", "segment_relation", "segment_size", "segment_ordinal")
WITH_LENGTH = ("segment_with_length", "its_mask_with_length")
IN_WORDS = ("count", "colour_of", "what_is_at", "yes_no")


@dataclass(frozen=True)
class Bar:
    """One line of the table.

    Attributes:
        what: is measured. n: of how many. value: the score, nan if nothing was measured.
        bound: it should be at least that, or at most where `at_most`. unit: of both, "" for a share.
    """

    what: str
    n: int
    value: float
    bound: float
    at_most: bool = False
    unit: str = ""

    @property
    def met(self) -> bool | None:
        """None if nothing was measured."""
        if math.isnan(self.value):
            return None
        return self.value <= self.bound if self.at_most else self.value >= self.bound


def bars(
    outcomes: Sequence[Outcome],
    scenes: TokenizerScores,
    photos: TokenizerScores,
    seconds: Sequence[float],
    folder_bytes: float,
) -> list[Bar]:
    """All bars.

    Args:
        scenes, photos: round trips of scenes' masks and of photographs'. seconds: of replies with a mask, one
            at a time. folder_bytes: size of the model's folder; nan if it is in none.
    """

    def some(*kinds: str, group: str = "") -> list[Outcome]:
        return [o for o in outcomes if o.question.kind in kinds and o.group == group]

    def tokens(measured: TokenizerScores, length: int) -> float:
        return measured.mean_iou.get(length, math.nan)

    found = []
    for length, bound in ((32, 0.95), (8, 0.88), (2, 0.70)):
        what = f"round trip, scenes' masks, {length} tokens: mean IoU"
        found.append(Bar(what, scenes.count, tokens(scenes, length), bound))
    found += [
        Bar("round trip, photographs' masks, 32 tokens: mean IoU", photos.count, tokens(photos, 32), 0.85),
        Bar(f"codes used, of {scenes.codebook_size}", scenes.count, scenes.codes_used, 700, unit="codes"),
        Bar("perplexity of the codes", scenes.count, scenes.perplexity, 400, unit="codes"),
    ]

    def add(what: str, chosen: Sequence[Outcome], score: str, bound: float) -> None:
        found.append(Bar(what, len(chosen), getattr(scores_of(chosen), score), bound))

    named, boxes = some("segment"), some("box")
    add("segment by name: cIoU", named, "ciou", 0.85)
    add("segment by name: mean IoU", named, "mean_iou", 0.80)
    add("segment by position, relation, size, ordinal: mean IoU", some(*BY_PLACE), "mean_iou", 0.70)
    add("things never drawn in that style: mean IoU", some("segment", group="new style"), "mean_iou", 0.65)
    add("boxes: accuracy at IoU 0.5", boxes, "box_at_50", 0.95)
    add("boxes: accuracy at IoU 0.75", boxes, "box_at_75", 0.80)
    add("absent things: says so", some("absent"), "accuracy", 0.95)
    present = [o for o in outcomes if not o.group and _points_at_something(o.question)]
    alarms = metrics.mean([denies(outcome.reply) for outcome in present])
    found.append(Bar("present things: says that they are absent", len(present), alarms, 0.03, at_most=True))
    add("count, colour, what-is-at, yes/no: accuracy", some(*IN_WORDS), "accuracy", 0.90)
    four = [outcome for outcome in some("mask_perception") if _options(outcome.question) == 4]
    add("mask perception, 4 options: accuracy", four, "accuracy", 0.90)
    add("mask of N tokens: right length", some(*WITH_LENGTH), "accuracy", 1.0)
    median = statistics.median(seconds) if seconds else math.nan
    found.append(Bar("reply with a mask, one at a time: median", len(seconds), median, 1.0, True, "s"))
    found.append(Bar("the model's folder", 1, folder_bytes / 1e6, 30, True, "MB"))
    return found


def _points_at_something(question: Question) -> bool:
    return bool(question.target) and (MASK in question.answer or "<box>" in question.answer)


def _options(question: Question) -> int:
    return sum(line[1:3] == ". " for line in question.prompt.splitlines())
