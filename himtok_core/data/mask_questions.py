"""Questions that are answered with masks and boxes, one function for each skill.

Each takes an `Asking` and the name of the kind, and gives a `Question`, or None where the scene does not
support it, e.g. because no phrase is clear enough.
"""

from .. import markup
from . import answers, references, wordings
from .answers import Question
from .asking import Asking
from .references import Reference, Way

MAX_TOKENS = 32

WAYS: dict[str, Way] = {
    "segment": references.by_name,
    "segment_synonym": references.by_synonym,
    "segment_colour_shape": references.by_colour_or_shape,
    "segment_position": references.by_position,
    "segment_ordinal": references.by_ordinal,
    "segment_relation": references.by_relation,
    "segment_size": references.by_size,
    "segment_all": references.all_of_a_kind,
}


def segment(asking: Asking, kind: str) -> Question | None:
    """A phrase -> its mask."""
    reference = asking.pick_specific(WAYS[kind](asking.scene))
    if reference is None:
        return None
    return answers.with_mask(asking.scene, kind, asking.mask_prompt(reference), reference.target)


def absent(asking: Asking, kind: str) -> Question | None:
    """Something that is not there, asked for as if it were."""
    name = asking.absent_name()
    if name is None:
        return None
    reference = Reference(name, ())
    style = asking.rng.random()
    if style < 0.7:
        prompt = asking.mask_prompt(reference)
    elif style < 0.85:
        prompt = asking.box_prompt(reference)
    else:
        prompt = asking.template("segment_then_ground", phrase=name)
    return Question(kind, prompt, answers.none_of(name))


def segment_then_box(asking: Asking, kind: str) -> Question | None:
    """A phrase -> its mask and its box."""
    reference = asking.any_single()
    if reference is None:
        return None
    if asking.rng.random() < 0.7:
        prompt = asking.template("segment_then_ground", phrase=reference.phrase)
    else:
        prompt = asking.say(wordings.MASK_THEN_BOX, reference)
    return answers.with_mask_and_box(asking.scene, kind, prompt, reference.target[0])


def segment_with_length(asking: Asking, kind: str) -> Question | None:
    """A phrase and a number of tokens -> a mask of just so many, mostly with its box."""
    reference = asking.any_single()
    if reference is None:
        return None
    tokens = int(asking.rng.integers(1, MAX_TOKENS + 1))
    if asking.rng.random() < 0.7:
        prompt = asking.template("segment_with_length", phrase=reference.phrase, detail="", tokens=tokens)
        return answers.with_mask_and_box(asking.scene, kind, prompt, reference.target[0], tokens)
    prompt = asking.say(wordings.MASK_WITH_LENGTH, reference, tokens=tokens)
    return answers.with_mask(asking.scene, kind, prompt, reference.target, tokens)


def box(asking: Asking, kind: str) -> Question | None:
    """A phrase -> its box."""
    reference = asking.any_single()
    if reference is None:
        return None
    return answers.with_box(asking.scene, kind, asking.box_prompt(reference), reference.target[0])


def segment_from_point(asking: Asking, kind: str) -> Question | None:
    """One to three points -> the mask of what they lie on."""
    target = asking.any_object()
    points = asking.points(target, int(asking.rng.integers(1, 4)))
    if points is None:
        return None
    if asking.rng.random() < 0.7:
        prompt = asking.template("segment_from_points", points=points)
    else:
        prompt = asking.say(wordings.MASK_FROM_POINTS, points=markup.format_points(points))
    return answers.with_mask_pointed_at(asking.scene, kind, prompt, target)


def segment_from_box(asking: Asking, kind: str) -> Question | None:
    """A box -> the mask of what it is around."""
    target = asking.clear_box()
    if target is None:
        return None
    prompt = asking.say(wordings.MASK_FROM_BOX, box=answers.box_text(asking.scene, target))
    return answers.with_mask_pointed_at(asking.scene, kind, prompt, target)


def segment_from_box_and_points(asking: Asking, kind: str) -> Question | None:
    """A box and one to three points -> the mask of what they mean, even where boxes are nearly the same."""
    target = asking.any_object()
    points = asking.points(target, int(asking.rng.integers(1, 4)))
    if points is None:
        return None
    if asking.rng.random() < 0.6:
        box = answers.box_1000(asking.scene, target)
        prompt = asking.template("segment_from_box_and_points", box=box, points=points)
    else:
        box = answers.box_text(asking.scene, target)
        wording = wordings.MASK_FROM_BOX_AND_POINTS
        prompt = asking.say(wording, box=box, points=markup.format_points(points))
    return answers.with_mask_pointed_at(asking.scene, kind, prompt, target)


def list_masks(asking: Asking, kind: str) -> Question:
    """Everything in the picture by name, with a mask each."""
    return answers.with_every_mask(asking.scene, kind, asking.say(wordings.LIST_MASKS))
