"""Questions about drawn scenes with their only right answers, one kind of question for each skill.

Knows which question a scene supports, how it is asked and what the answer says. Phrases that point something
out come from `references`, wordings from `himtok_core.prompts` (the paper's) and `wordings` (plain words).
Answers to one kind always read alike, so that a small model has few words to learn; masks stand in a text as
`<mask>`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .. import geometry, markup, prompts
from . import references, wordings, words
from .references import Reference
from .scenes import Scene, World

MASK = "<mask>"  # stands for one mask run, in the order of the masks
MAX_TOKENS = 32


@dataclass(frozen=True, eq=False)
class Question:
    """One question about a scene and its answer.

    Attributes:
        kind: one of `KINDS`.
        prompt: the user's turn; one `<mask>` for each of `prompt_masks`.
        answer: the reply; one `<mask>` for each of `answer_masks`.
        prompt_masks, answer_masks: bool [H, W] at the size of the picture, True inside.
        mask_tokens: tokens in the answer's runs, 1..32, where the prompt asks for a number, else None.
        target: indices of the scene's objects that the answer is about.
    """

    kind: str
    prompt: str
    answer: str
    prompt_masks: tuple[np.ndarray, ...] = ()
    answer_masks: tuple[np.ndarray, ...] = ()
    mask_tokens: int | None = None
    target: tuple[int, ...] = ()


def ask(scene: Scene, kind: str, rng: np.random.Generator, world: World) -> Question | None:
    """One question of a kind, or None where the scene does not support it (e.g. no phrase is clear enough).

    Raises:
        ValueError: for a kind that is not in `KINDS`.
    """
    if kind not in _ASK:
        raise ValueError(f"no such kind of question: {kind!r}; kinds: {', '.join(KINDS)}")
    return _ASK[kind](scene, kind, rng, world) if scene.objects else None


def ask_some(
    scene: Scene, rng: np.random.Generator, world: World, count: int, weights: dict[str, float] | None = None
) -> list[Question]:
    """Up to `count` questions with different prompts; kinds are drawn by `weights` (`WEIGHTS` where None)."""
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


def _segment(scene: Scene, kind: str, rng: np.random.Generator, world: World) -> Question | None:
    """A phrase -> its mask. Half of the prompts have the released model's plain form."""
    reference = _pick_specific(rng, _WAYS[kind](scene))
    if reference is None:
        return None
    return Question(
        kind,
        _mask_prompt(rng, reference),
        prompts.TEMPLATES["released_response"].variants[0].format(mask=MASK),
        answer_masks=(_mask(scene, reference.target),),
        target=reference.target,
    )


def _absent(scene: Scene, kind: str, rng: np.random.Generator, world: World) -> Question | None:
    """Something that is not there, asked for as if it were."""
    name = _absent_name(scene, rng, world)
    if name is None:
        return None
    reference = Reference(name, ())
    style = rng.random()
    if style < 0.7:
        prompt = _mask_prompt(rng, reference)
    elif style < 0.85:
        prompt = _box_prompt(rng, reference)
    else:
        prompt = _template(rng, "segment_then_ground", phrase=name)
    return Question(kind, prompt, _none_of(name))


def _segment_then_box(scene: Scene, kind: str, rng: np.random.Generator, world: World) -> Question | None:
    reference = _any_single(scene, rng)
    if reference is None:
        return None
    if rng.random() < 0.7:
        prompt = _template(rng, "segment_then_ground", phrase=reference.phrase)
    else:
        prompt = _say(rng, wordings.MASK_THEN_BOX, reference)
    return _mask_and_box(scene, kind, prompt, reference)


def _segment_with_length(scene: Scene, kind: str, rng: np.random.Generator, world: World) -> Question | None:
    reference = _any_single(scene, rng)
    if reference is None:
        return None
    tokens = int(rng.integers(1, MAX_TOKENS + 1))
    if rng.random() < 0.7:
        prompt = _template(rng, "segment_with_length", phrase=reference.phrase, detail="", tokens=tokens)
        return _mask_and_box(scene, kind, prompt, reference, tokens)
    return Question(
        kind,
        _say(rng, wordings.MASK_WITH_LENGTH, reference, tokens=tokens),
        prompts.TEMPLATES["released_response"].variants[0].format(mask=MASK),
        answer_masks=(_mask(scene, reference.target),),
        mask_tokens=tokens,
        target=reference.target,
    )


def _box(scene: Scene, kind: str, rng: np.random.Generator, world: World) -> Question | None:
    reference = _any_single(scene, rng)
    if reference is None:
        return None
    box = _box_text(scene, reference.target[0])
    answer = prompts.TEMPLATES["ground_response"].variants[0].format(box=box)
    return Question(kind, _box_prompt(rng, reference), answer, target=reference.target)


def _segment_from_point(scene: Scene, kind: str, rng: np.random.Generator, world: World) -> Question | None:
    target = int(rng.integers(len(scene.objects)))
    points = _points(scene, target, rng, int(rng.integers(1, 4)))
    if points is None:
        return None
    if rng.random() < 0.7:
        prompt = _template(rng, "segment_from_points", points=points)
    else:
        prompt = _choose(rng, wordings.MASK_FROM_POINTS).format(points=markup.format_points(points))
    return _pointed_out(scene, kind, prompt, target)


def _segment_from_box(scene: Scene, kind: str, rng: np.random.Generator, world: World) -> Question | None:
    target = _clear_box(scene, rng)
    points = None if target is None else _points(scene, target, rng, int(rng.integers(1, 4)))
    if points is None:
        return None
    if rng.random() < 0.5:
        prompt = _template(rng, "segment_from_box_and_points", box=_box_1000(scene, target), points=points)
    else:
        prompt = _choose(rng, wordings.MASK_FROM_BOX).format(box=_box_text(scene, target))
    return _pointed_out(scene, kind, prompt, target)


def _count(scene: Scene, kind: str, rng: np.random.Generator, world: World) -> Question | None:
    """Things of a name, figures of a shape, or all objects; now and then of something that is not there."""
    names = [word for item in scene.objects for word in (item.name, item.shape) if word is not None]
    style = rng.random()
    if style < 0.15:
        name = _absent_name(scene, rng, world)
    else:
        name = "object" if style < 0.35 else _choose(rng, names)
    if name is None or words.is_plural(name):
        return None  # nobody counts "cherries"
    found = tuple(range(len(scene.objects))) if name == "object" else references.matching(scene, name)
    prompt = _choose(rng, wordings.COUNT).format(things=words.plural(name))
    if not found:
        return Question(kind, prompt, _none_of(name))
    number = f"is 1 {name}" if len(found) == 1 else f"are {len(found)} {words.plural(name)}"
    return Question(kind, prompt, f"There {number} in the picture.", target=found)


def _colour_of(scene: Scene, kind: str, rng: np.random.Generator, world: World) -> Question | None:
    """Only plain figures have one colour; the phrase must not say it already."""
    ways = (references.by_colour_or_shape, references.by_position, references.by_relation, references.by_size)
    found = [
        reference
        for way in ways
        for reference in way(scene)
        if scene.objects[reference.target[0]].colour not in (None, *reference.phrase.split())
    ]
    reference = _pick_specific(rng, found)
    if reference is None:
        return None
    item = scene.objects[reference.target[0]]
    answer = f"The {item.shape} is {item.colour}."
    return Question(kind, _say(rng, wordings.COLOUR, reference), answer, target=reference.target)


def _what_is_at(scene: Scene, kind: str, rng: np.random.Generator, world: World) -> Question | None:
    by_box = rng.random() < 0.5
    target = _clear_box(scene, rng) if by_box else int(rng.integers(len(scene.objects)))
    points = None if target is None else _points(scene, target, rng, 1)
    if points is None:
        return None
    if by_box:
        prompt = _choose(rng, wordings.WHAT_IN_BOX).format(box=_box_text(scene, target))
    else:
        prompt = _choose(rng, wordings.WHAT_AT_POINT).format(points=markup.format_points(points))
    name = scene.objects[target].name
    answer = f"These are {name}." if words.is_plural(name) else f"It is {words.a(name)}."
    return Question(kind, prompt, answer, target=(target,))


def _where_is(scene: Scene, kind: str, rng: np.random.Generator, world: World) -> Question | None:
    reference = _pick(rng, references.by_name(scene))
    if reference is None:
        return None
    many = words.is_plural(reference.phrase)
    prompt = _say(rng, wordings.WHERE_MANY if many else wordings.WHERE, reference)
    box = _box_text(scene, reference.target[0])
    place = _place(scene, reference.target[0])
    answer = f"{_sentence(reference.thing)} {'are' if many else 'is'} {place}, <box>{box}</box>."
    return Question(kind, prompt, answer, target=reference.target)


def _yes_no(scene: Scene, kind: str, rng: np.random.Generator, world: World) -> Question | None:
    """Presence mostly, also colour and relation; yes and no equally often."""
    yes = bool(rng.random() < 0.5)
    style = rng.random()
    if style < 0.25:
        return _is_colour(scene, kind, rng, world, yes)
    if style < 0.5:
        return _is_related(scene, kind, rng, yes)
    present = [item.name for item in scene.objects]
    name = _choose(rng, present) if yes else _absent_name(scene, rng, world)
    if name is None:
        return None
    many = words.is_plural(name)
    prompt = _choose(rng, wordings.IS_THERE_MANY if many else wordings.IS_THERE).format(one=words.a(name))
    if not yes:
        return Question(kind, prompt, f"No. {_none_of(name)}")
    answer = f"Yes. There {'are' if many else 'is'} {words.a(name)} in the picture."
    return Question(kind, prompt, answer, target=references.matching(scene, name))


def _is_colour(scene: Scene, kind: str, rng: np.random.Generator, world: World, yes: bool) -> Question | None:
    shapes = [item.shape for item in scene.objects if item.shape is not None]
    reference = _pick(rng, [r for r in references.by_colour_or_shape(scene) if r.phrase in shapes])
    if reference is None:
        return None
    item = scene.objects[reference.target[0]]
    others = [colour for colour in world.colours if colour != item.colour]
    asked = item.colour if yes else _choose(rng, others)
    answer = f"{'Yes' if yes else 'No'}. The {item.shape} is {item.colour}."
    prompt = _say(rng, wordings.IS_COLOUR, reference, colour=asked)
    return Question(kind, prompt, answer, target=reference.target)


def _is_related(scene: Scene, kind: str, rng: np.random.Generator, yes: bool) -> Question | None:
    named = references.by_name(scene)
    found = [
        (one, relation, other)
        for one in named
        for other in named
        for relation in references.RELATIONS
        if one is not other
        and not words.is_plural(one.phrase)
        and references.holds(scene, one.target[0], relation, other.target[0]) is yes
    ]
    if not found:
        return None
    one, relation, other = found[rng.integers(len(found))]
    prompt = _say(rng, wordings.IS_RELATED, one, relation=relation, other=other.thing)
    answer = f"Yes. The {one.phrase} is" if yes else f"No. The {one.phrase} is not"
    return Question(kind, prompt, f"{answer} {relation} {other.thing}.", target=one.target + other.target)


def _describe(scene: Scene, kind: str, rng: np.random.Generator, world: World) -> Question | None:
    """Names everything, from left to right; things of one name together."""
    order = sorted(range(len(scene.objects)), key=lambda i: scene.objects[i].centre[0])
    names = [scene.objects[i].name for i in order]
    parts = [words.several(names.count(name), name) for name in dict.fromkeys(names)]
    answer = f"The picture shows {words.listing(parts)}."
    return Question(kind, _choose(rng, wordings.DESCRIBE), answer, target=tuple(order))


def _mask_perception(scene: Scene, kind: str, rng: np.random.Generator, world: World) -> Question | None:
    """A mask and two to four phrases, one of which is true of it."""
    target = int(rng.integers(len(scene.objects)))
    true = {
        reference.phrase
        for way in (references.by_name, references.by_position, references.by_size)
        for reference in way(scene)
        if reference.target == (target,)
    }
    if not true:
        return None
    item = scene.objects[target]
    name = item.name
    right = name if name in true and rng.random() < 0.6 else _choose(rng, sorted(true))
    wrong = {other.name for other in scene.objects if not references.answers_to(item, other.name)}
    if right != name:  # a phrase about the place is only wrong of things that are somewhere else
        ways = (references.by_position, references.by_size)
        wrong |= {r.phrase for way in ways for r in way(scene) if r.target != (target,)}
    count = int(rng.integers(2, 5))
    while len(wrong) < count - 1:
        absent = _absent_name(scene, rng, world)
        if absent is None:
            return None
        wrong.add(absent)
    options = [right, *rng.choice(sorted(wrong), size=count - 1, replace=False)]
    options = [str(options[i]) for i in rng.permutation(count)]
    text = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=False))
    prompt = _choose(rng, wordings.WHICH_MASK).format(options=text)
    letter = "ABCD"[options.index(right)]
    return Question(kind, prompt, letter, prompt_masks=(item.mask,), target=(target,))


def _mask_and_box(
    scene: Scene, kind: str, prompt: str, reference: Reference, tokens: int | None = None
) -> Question:
    template = prompts.TEMPLATES["segment_then_ground_response"].variants[0]
    answer = template.format(mask=MASK, box=_box_text(scene, reference.target[0]))
    masks = (_mask(scene, reference.target),)
    return Question(kind, prompt, answer, answer_masks=masks, mask_tokens=tokens, target=reference.target)


def _pointed_out(scene: Scene, kind: str, prompt: str, target: int) -> Question:
    answer = prompts.TEMPLATES["segment_response"].variants[0].format(mask=MASK)
    return Question(kind, prompt, answer, answer_masks=(scene.objects[target].mask,), target=(target,))


def _mask_prompt(rng: np.random.Generator, reference: Reference) -> str:
    if rng.random() < 0.5:
        return _template(rng, "segment", phrase=reference.phrase)
    return _say(rng, wordings.MASK, reference)


def _box_prompt(rng: np.random.Generator, reference: Reference) -> str:
    if rng.random() < 0.6:
        return _template(rng, "ground", phrase=reference.phrase)
    return _say(rng, wordings.BOX, reference)


def _any_single(scene: Scene, rng: np.random.Generator) -> Reference | None:
    """A phrase for one object: a name mostly, sometimes another way to say which."""
    named = references.by_name(scene)
    if named and rng.random() < 0.6:
        return _pick(rng, named)
    way = references.TO_ONE[rng.integers(len(references.TO_ONE))]
    return _pick_specific(rng, way(scene) or named)


def _absent_name(scene: Scene, rng: np.random.Generator, world: World) -> str | None:
    """A name of the world that nothing in the scene has; half of the figures differ from one that is there by
    colour or shape only.
    """
    figures = [item for item in scene.objects if item.shape is not None]
    for _ in range(8):
        if rng.random() < 0.25:
            colour, shape = _choose(rng, world.colours), _choose(rng, world.shapes)
            if figures and rng.random() < 0.5:
                near = figures[rng.integers(len(figures))]
                colour, shape = (near.colour, shape) if rng.random() < 0.5 else (colour, near.shape)
            name = f"{colour} {shape}"
        else:
            name = world.concepts[rng.integers(len(world.concepts))].name
        if references.is_absent(scene, name):
            return name
    return None


def _none_of(name: str) -> str:
    return f"There {'are' if words.is_plural(name) else 'is'} no {name} in the picture."


def _mask(scene: Scene, target: Sequence[int]) -> np.ndarray:
    return np.logical_or.reduce([scene.objects[i].mask for i in target])


def _box_1000(scene: Scene, target: int) -> tuple[int, ...]:
    return geometry.scale_box_to_thousand(scene.objects[target].box, scene.size)


def _box_text(scene: Scene, target: int) -> str:
    return markup.format_box_list([_box_1000(scene, target)])


def _points(scene: Scene, target: int, rng: np.random.Generator, count: int) -> list[tuple[int, int]] | None:
    """Points (x, y) on the 0-1000 scale inside an object, off its edge; None if it is too thin for that."""
    mask = scene.objects[target].mask
    inner = mask.copy()
    for axis in (0, 1):
        for step in (-2, 2):
            inner &= np.roll(mask, step, axis)
    rows, columns = np.nonzero(inner)
    if len(rows) == 0:
        return None
    chosen = rng.integers(len(rows), size=count)
    width, height = scene.size
    return [(int(1000 * (columns[i] + 0.5) / width), int(1000 * (rows[i] + 0.5) / height)) for i in chosen]


def _clear_box(scene: Scene, rng: np.random.Generator) -> int | None:
    """An object whose box is not nearly that of another."""
    target = int(rng.integers(len(scene.objects)))
    box = scene.objects[target].box
    others = [item.box for i, item in enumerate(scene.objects) if i != target]
    return None if any(geometry.box_iou(box, other) > 0.6 for other in others) else target


def _place(scene: Scene, target: int) -> str:
    """Which ninth of the picture the centre lies in, in words."""
    (x, y), (width, height) = scene.objects[target].centre, scene.size
    column = ("left", "", "right")[min(2, int(3 * x / width))]
    row = ("top", "", "bottom")[min(2, int(3 * y / height))]
    if row:
        return f"at the {row} {column}".rstrip()
    return f"on the {column}" if column else "in the middle"


def _template(rng: np.random.Generator, name: str, **slots: object) -> str:
    return prompts.render(name, variant=int(rng.integers(len(prompts.TEMPLATES[name].variants))), **slots)


def _say(rng: np.random.Generator, choices: Sequence[str], reference: Reference, **slots: object) -> str:
    return _choose(rng, choices).format(thing=reference.thing, phrase=reference.phrase, **slots)


def _choose(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return str(choices[rng.integers(len(choices))])


def _pick(rng: np.random.Generator, found: Sequence[Reference]) -> Reference | None:
    return found[rng.integers(len(found))] if found else None


def _pick_specific(rng: np.random.Generator, found: Sequence[Reference]) -> Reference | None:
    """Mostly a phrase that names a kind of thing: "object ..." always suits and would crowd out the rest."""
    specific = [r for r in found if not {"object", "objects"} & set(r.phrase.split())]
    return _pick(rng, specific if specific and rng.random() < 0.75 else found)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


_WAYS: dict[str, references.Way] = {
    "segment": references.by_name,
    "segment_synonym": references.by_synonym,
    "segment_colour_shape": references.by_colour_or_shape,
    "segment_position": references.by_position,
    "segment_ordinal": references.by_ordinal,
    "segment_relation": references.by_relation,
    "segment_size": references.by_size,
    "segment_all": references.all_of_a_kind,
}
_ASK: dict[str, Callable[[Scene, str, np.random.Generator, World], Question | None]] = {
    **dict.fromkeys(_WAYS, _segment),
    "absent": _absent,
    "segment_then_box": _segment_then_box,
    "box": _box,
    "segment_from_point": _segment_from_point,
    "segment_from_box": _segment_from_box,
    "segment_with_length": _segment_with_length,
    "count": _count,
    "colour_of": _colour_of,
    "what_is_at": _what_is_at,
    "where_is": _where_is,
    "yes_no": _yes_no,
    "describe": _describe,
    "mask_perception": _mask_perception,
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
