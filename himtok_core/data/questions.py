"""Questions about drawn scenes with their only right answers, by kind.

Knows which kinds there are and how often each is asked. What a kind is lies in `mask_questions` and
`word_questions`; questions that lean on an earlier turn are in `follow_ups`.
"""

from collections.abc import Callable

import numpy as np

from . import mask_questions, word_questions
from .answers import MASK as MASK
from .answers import Question
from .asking import Asking
from .scenes import Scene
from .world import World

_ASK: dict[str, Callable[[Asking, str], Question | None]] = {
    **dict.fromkeys(mask_questions.WAYS, mask_questions.segment),
    "absent": mask_questions.absent,
    "segment_then_box": mask_questions.segment_then_box,
    "box": mask_questions.box,
    "segment_from_point": mask_questions.segment_from_point,
    "segment_from_box": mask_questions.segment_from_box,
    "segment_with_length": mask_questions.segment_with_length,
    "count": word_questions.count,
    "colour_of": word_questions.colour_of,
    "what_is_at": word_questions.what_is_at,
    "where_is": word_questions.where_is,
    "yes_no": word_questions.yes_no,
    "describe": word_questions.describe,
    "mask_perception": word_questions.mask_perception,
    "segment_from_box_and_points": mask_questions.segment_from_box_and_points,
    "list_masks": mask_questions.list_masks,
}
KINDS: tuple[str, ...] = tuple(_ASK)

# How often each kind is drawn by `ask_some`: what the paper's model is for comes most often.
WEIGHTS: dict[str, float] = {
    **dict.fromkeys(KINDS, 1.0),
    "segment": 5.0,
    "absent": 1.5,
    "box": 2.0,
    "segment_then_box": 2.0,
    "segment_position": 1.5,
    "segment_relation": 1.5,
}


def ask(scene: Scene, kind: str, rng: np.random.Generator, world: World) -> Question | None:
    """One question of a kind, or None where the scene does not support it (e.g. no phrase is clear enough).

    Raises:
        ValueError: for a kind that is not in `KINDS`.
    """
    if kind not in _ASK:
        raise ValueError(f"no such kind of question: {kind!r}; kinds: {', '.join(KINDS)}")
    return _ASK[kind](Asking(scene, rng, world), kind) if scene.objects else None


def ask_some(
    scene: Scene, rng: np.random.Generator, world: World, count: int, weights: dict[str, float] | None = None
) -> list[Question]:
    """Up to `count` questions with different prompts; kinds are drawn by `weights` (`WEIGHTS` if None)."""
    weights = WEIGHTS if weights is None else weights
    kinds = list(weights)
    chances = np.array([weights[kind] for kind in kinds], dtype=float)
    found: dict[str, Question] = {}
    for kind in rng.choice(kinds, size=6 * count, p=chances / chances.sum()):
        question = ask(scene, str(kind), rng, world)
        if question is not None:
            found.setdefault(question.prompt, question)
        if len(found) == count:
            break
    return list(found.values())
