"""What the right answer to a question says: the truth about a scene, in words that read alike for one kind.

A small model has few words to learn that way. Masks stand in a text as `<mask>`. What is asked, and how, is
left to `mask_questions` and `word_questions`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import geometry, markup, prompts
from . import words
from .scenes import Scene, SceneObject

MASK = "<mask>"  # stands for one mask run, in the order of the masks


@dataclass(frozen=True, eq=False)
class Question:
    """One question about a scene and its answer.

    Attributes:
        kind: one of `questions.KINDS` or `follow_ups.KINDS`.
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


def with_mask(
    scene: Scene, kind: str, prompt: str, target: Sequence[int], mask_tokens: int | None = None
) -> Question:
    """The mask of what a phrase names; of several objects their union."""
    return _masked("released_response", scene, kind, prompt, target, mask_tokens)


def with_mask_pointed_at(scene: Scene, kind: str, prompt: str, target: int) -> Question:
    """The mask of the object at a point or in a box."""
    return _masked("segment_response", scene, kind, prompt, (target,))


def with_mask_and_box(
    scene: Scene, kind: str, prompt: str, target: int, mask_tokens: int | None = None
) -> Question:
    """A mask, then the box around it."""
    box = box_text(scene, target)
    return _masked("segment_then_ground_response", scene, kind, prompt, (target,), mask_tokens, box=box)


def with_box(scene: Scene, kind: str, prompt: str, target: int) -> Question:
    """The box of an object."""
    answer = prompts.TEMPLATES["ground_response"].variants[0].format(box=box_text(scene, target))
    return Question(kind, prompt, answer, target=(target,))


def with_every_mask(scene: Scene, kind: str, prompt: str) -> Question:
    """Each object with its mask, from left to right."""
    order = left_to_right(scene)
    parts = [f"<ref>{scene.objects[i].name}</ref> {MASK}" for i in order]
    masks = tuple(scene.objects[i].mask for i in order)
    return Question(kind, prompt, f"The picture shows {words.listing(parts)}.", (), masks, None, order)


def _masked(
    template: str,
    scene: Scene,
    kind: str,
    prompt: str,
    target: Sequence[int],
    mask_tokens: int | None = None,
    **slots: str,
) -> Question:
    answer = prompts.TEMPLATES[template].variants[0].format(mask=MASK, **slots)
    mask = np.logical_or.reduce([scene.objects[i].mask for i in target])
    return Question(kind, prompt, answer, (), (mask,), mask_tokens, tuple(target))


def none_of(name: str) -> str:
    """There is no such thing."""
    return f"There {'are' if words.is_plural(name) else 'is'} no {name} in the picture."


def number_of(count: int, name: str) -> str:
    """How many there are, at least one."""
    number = f"is 1 {name}" if count == 1 else f"are {count} {words.plural(name)}"
    return f"There {number} in the picture."


def colour_of(item: SceneObject) -> str:
    """The colour of a plain figure."""
    return f"The {item.shape} is {item.colour}."


def identity(name: str) -> str:
    """What something is."""
    return f"These are {name}." if words.is_plural(name) else f"It is {words.a(name)}."


def description(scene: Scene) -> tuple[str, tuple[int, ...]]:
    """Everything by name, from left to right, things of one name together; and the objects in that order."""
    order = left_to_right(scene)
    names = [scene.objects[i].name for i in order]
    parts = [words.several(names.count(name), name) for name in dict.fromkeys(names)]
    return f"The picture shows {words.listing(parts)}.", order


def left_to_right(scene: Scene) -> tuple[int, ...]:
    """The indices of all objects, by the middle of their boxes."""
    return tuple(sorted(range(len(scene.objects)), key=lambda i: scene.objects[i].centre[0]))


def place(scene: Scene, target: int) -> str:
    """Which ninth of the picture the centre of an object lies in, in words."""
    (x, y), (width, height) = scene.objects[target].centre, scene.size
    column = ("left", "", "right")[min(2, int(3 * x / width))]
    row = ("top", "", "bottom")[min(2, int(3 * y / height))]
    if row:
        return f"at the {row} {column}".rstrip()
    return f"on the {column}" if column else "in the middle"


def box_1000(scene: Scene, target: int) -> tuple[int, ...]:
    """The box of an object on the 0-1000 scale."""
    return geometry.scale_box_to_thousand(scene.objects[target].box, scene.size)


def box_text(scene: Scene, target: int) -> str:
    """The box of an object as it stands between `<box>` tags."""
    return markup.format_box_list([box_1000(scene, target)])
