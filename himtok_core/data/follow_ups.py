"""Conversations about a scene: questions that lean on the turn before, by a pronoun or by leaving words out.

"And the one to its left?", "now its box", "what colour is it?" mean something only after a question about one
object. Knows which of them the last turn allows and what the right answer is. Questions that stand alone are
`questions`' work.
"""

from collections.abc import Callable

import numpy as np

from . import answers, leaning_wordings, references, words
from .answers import Question
from .asking import Asking
from .mask_questions import MAX_TOKENS
from .questions import ask_some
from .scenes import Scene
from .world import World

MOST_TURNS = 6
_LEANING = 0.6  # share of the later turns that lean on the one before, where that allows it
_WHERE = {
    "left of": "to {its} left",
    "right of": "to {its} right",
    "above": "above {it}",
    "below": "below {it}",
    "next to": "next to {it}",
}


def converse(
    scene: Scene,
    rng: np.random.Generator,
    world: World,
    turns: int,
    weights: dict[str, float] | None = None,
) -> list[Question]:
    """Up to `turns` questions of one conversation, 1 to `MOST_TURNS`.

    Args:
        weights: how often each kind that stands alone is drawn, as in `questions.ask_some`.
    """
    alone = ask_some(scene, rng, world, turns, weights)
    asked: list[Question] = []
    while alone and len(asked) < turns:
        leaning = None
        if asked and rng.random() < _LEANING:
            kinds = rng.choice(KINDS, size=len(KINDS), replace=False, p=_CHANCES)
            possible = (follow_up(scene, asked[-1], str(kind), rng, world) for kind in kinds)
            leaning = next((question for question in possible if question is not None), None)
        asked.append(leaning or alone.pop(0))
    return asked


def follow_up(
    scene: Scene, before: Question, kind: str, rng: np.random.Generator, world: World
) -> Question | None:
    """A question of a kind that leans on the one before, or None where that does not allow it.

    Raises:
        ValueError: for a kind that is not in `KINDS`.
    """
    if kind not in _LEAN:
        raise ValueError(f"no such kind of follow-up: {kind!r}; kinds: {', '.join(KINDS)}")
    if len(before.target) != 1:
        return None  # nobody would know what "it" is
    return _LEAN[kind](Asking(scene, rng, world), kind, before)


def _its_mask(asking: Asking, kind: str, before: Question) -> Question | None:
    if before.answer_masks:
        return None
    prompt = asking.say(leaning_wordings.ITS_MASK, **_pronouns(asking, before))
    return answers.with_mask(asking.scene, kind, prompt, before.target)


def _its_mask_with_length(asking: Asking, kind: str, before: Question) -> Question:
    tokens = int(asking.rng.integers(1, MAX_TOKENS + 1))
    prompt = asking.say(leaning_wordings.ITS_MASK_WITH_LENGTH, tokens=tokens, **_pronouns(asking, before))
    return answers.with_mask(asking.scene, kind, prompt, before.target, tokens)


def _its_box(asking: Asking, kind: str, before: Question) -> Question | None:
    if "<box>" in before.answer:
        return None
    prompt = asking.say(leaning_wordings.ITS_BOX, **_pronouns(asking, before))
    return answers.with_box(asking.scene, kind, prompt, before.target[0])


def _one_beside(asking: Asking, kind: str, before: Question) -> Question | None:
    """Answered as the turn before: by a mask, by a box, or by a name."""
    anchor = before.target[0]
    others = [i for i in range(len(asking.scene.objects)) if i != anchor]
    found = [
        (relation, target)
        for relation in references.RELATIONS
        if (target := references.single(asking.scene, others, anchor, relation)) is not None
    ]
    if not found:
        return None
    relation, target = found[asking.rng.integers(len(found))]
    where = _WHERE[relation].format(**_pronouns(asking, before))
    if before.answer_masks:
        prompt = asking.say(leaning_wordings.MASK_OF_ONE_BESIDE, where=where)
        return answers.with_mask(asking.scene, kind, prompt, (target,))
    if "<box>" in before.answer:
        return answers.with_box(
            asking.scene, kind, asking.say(leaning_wordings.BOX_OF_ONE_BESIDE, where=where), target
        )
    prompt = asking.say(leaning_wordings.NAME_OF_ONE_BESIDE, where=where)
    return Question(kind, prompt, answers.identity(asking.scene.objects[target].name), target=(target,))


def _other(asking: Asking, kind: str, before: Question) -> Question | None:
    """The second of two things of one name or shape."""
    item = asking.scene.objects[before.target[0]]
    said = [noun for noun in (item.name, item.shape) if noun is not None and noun in before.prompt]
    alike = references.matching(asking.scene, said[0]) if said else ()
    if len(alike) != 2 or words.is_plural(said[0]):
        return None
    (target,) = set(alike) - set(before.target)
    return _same_again(asking, kind, before, asking.say(leaning_wordings.OTHER), target)


def _the_same_for(asking: Asking, kind: str, before: Question) -> Question | None:
    named = [r for r in references.by_name(asking.scene) if r.target != before.target]
    reference = asking.pick(named)
    if reference is None:
        return None
    prompt = asking.say(leaning_wordings.THE_SAME_FOR, reference)
    return _same_again(asking, kind, before, prompt, reference.target[0])


def _same_again(asking: Asking, kind: str, before: Question, prompt: str, target: int) -> Question | None:
    """The kind of answer that the turn before had: a mask, or a box; other answers cannot be repeated."""
    if before.answer_masks and "<box>" not in before.answer and before.mask_tokens is None:
        return answers.with_mask(asking.scene, kind, prompt, (target,))
    if "<box>" in before.answer and not before.answer_masks and before.kind != "where_is":
        return answers.with_box(asking.scene, kind, prompt, target)
    return None


def _its_name(asking: Asking, kind: str, before: Question) -> Question | None:
    """Where nothing has been said that gives it away."""
    item = asking.scene.objects[before.target[0]]
    said = before.prompt + before.answer
    known = (item.name, *item.synonyms, *([item.shape, item.colour] if item.shape else []))
    if any(name in said for name in known) or item.name.split()[-1] in said:
        return None
    prompt = asking.say(leaning_wordings.ITS_NAME)
    return Question(kind, prompt, answers.identity(item.name), target=before.target)


def _its_colour(asking: Asking, kind: str, before: Question) -> Question | None:
    item = asking.scene.objects[before.target[0]]
    if item.colour is None or item.colour in (before.prompt + before.answer):
        return None
    prompt = asking.say(leaning_wordings.ITS_COLOUR)
    return Question(kind, prompt, answers.colour_of(item), target=before.target)


def _how_many_of_them(asking: Asking, kind: str, before: Question) -> Question | None:
    name = asking.scene.objects[before.target[0]].name
    if name not in before.prompt + before.answer or words.is_plural(name) or words.is_uncountable(name):
        return None
    if before.kind in ("count", kind):
        return None
    found = references.matching(asking.scene, name)
    answer = answers.number_of(len(found), name)
    return Question(kind, asking.say(leaning_wordings.HOW_MANY_OF_THEM), answer, target=found)


def _pronouns(asking: Asking, before: Question) -> dict[str, str]:
    many = words.is_plural(asking.scene.objects[before.target[0]].name)
    return {"it": "them", "its": "their"} if many else {"it": "it", "its": "its"}


_LEAN: dict[str, Callable[[Asking, str, Question], Question | None]] = {
    "its_mask": _its_mask,
    "its_mask_with_length": _its_mask_with_length,
    "its_box": _its_box,
    "one_beside": _one_beside,
    "other": _other,
    "the_same_for": _the_same_for,
    "its_name": _its_name,
    "its_colour": _its_colour,
    "how_many_of_them": _how_many_of_them,
}
KINDS: tuple[str, ...] = tuple(_LEAN)
# What only few turns allow is taken where it is possible; a mask of N tokens always is.
_MORE_OR_LESS = {"other": 12.0, "its_colour": 4.0, "its_mask_with_length": 0.4}
_CHANCES = np.array([_MORE_OR_LESS.get(kind, 1.0) for kind in KINDS])
_CHANCES /= _CHANCES.sum()
