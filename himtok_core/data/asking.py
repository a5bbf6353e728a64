"""How a question is put: which phrase points at what, in which wording.

Knows one scene, its world and a source of chance. Phrases come from `references`, wordings from
`himtok_core.prompts` (the paper's) and `wordings` (plain words). What is asked is left to `mask_questions`
and `word_questions`, what the right answer says to `answers`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import geometry, prompts
from . import references
from .references import Reference
from .scenes import Scene
from .wordings import BOX, MASK, Wordings
from .world import World


@dataclass(frozen=True, eq=False)
class Asking:
    """One scene with at least one object, and somebody who asks about it."""

    scene: Scene
    rng: np.random.Generator
    world: World

    def template(self, name: str, **slots: object) -> str:
        """One of the paper's wordings."""
        variant = int(self.rng.integers(len(prompts.TEMPLATES[name].variants)))
        return prompts.render(name, variant=variant, **slots)

    def say(self, wordings: Wordings, reference: Reference | None = None, **slots: object) -> str:
        """One of the plain wordings."""
        if reference is not None:
            slots |= {"thing": reference.thing, "phrase": reference.phrase}
        return self.choose(wordings.every).format(**slots)

    def mask_prompt(self, reference: Reference) -> str:
        """Asks for the mask of something; half of the prompts have the released model's plain form."""
        if self.rng.random() < 0.5:
            return self.template("segment", phrase=reference.phrase)
        return self.say(MASK, reference)

    def box_prompt(self, reference: Reference) -> str:
        """Asks for the box of something."""
        if self.rng.random() < 0.6:
            return self.template("ground", phrase=reference.phrase)
        return self.say(BOX, reference)

    def choose(self, choices: Sequence[str]) -> str:
        """One of several texts."""
        return str(choices[self.rng.integers(len(choices))])

    def pick(self, found: Sequence[Reference]) -> Reference | None:
        """One of several phrases; None if there are none."""
        return found[self.rng.integers(len(found))] if found else None

    def pick_specific(self, found: Sequence[Reference]) -> Reference | None:
        """Mostly a phrase that names a kind of thing: "object ..." always suits and would push out others."""
        specific = [r for r in found if not {"object", "objects"} & set(r.phrase.split())]
        return self.pick(specific if specific and self.rng.random() < 0.75 else found)

    def any_single(self) -> Reference | None:
        """A phrase for one object: a name mostly, sometimes another way to say which."""
        named = references.by_name(self.scene)
        if named and self.rng.random() < 0.6:
            return self.pick(named)
        way = references.TO_ONE[self.rng.integers(len(references.TO_ONE))]
        return self.pick_specific(way(self.scene) or named)

    def absent_name(self) -> str | None:
        """A name of the world that nothing in the scene has; half of the figures differ from one that is
        there by colour or shape only.
        """
        rng, world = self.rng, self.world
        figures = [item for item in self.scene.objects if item.shape is not None]
        for _ in range(8):
            if rng.random() < 0.25:
                colour, shape = self.choose(world.colours), self.choose(world.shapes)
                if figures and rng.random() < 0.5:
                    near = figures[rng.integers(len(figures))]
                    colour, shape = (near.colour, shape) if rng.random() < 0.5 else (colour, near.shape)
                name = f"{colour} {shape}"
            else:
                name = world.concepts[rng.integers(len(world.concepts))].name
            if references.is_absent(self.scene, name):
                return name
        return None

    def any_object(self) -> int:
        """The index of some object."""
        return int(self.rng.integers(len(self.scene.objects)))

    def clear_box(self) -> int | None:
        """An object whose box is not nearly that of another."""
        target = self.any_object()
        box = self.scene.objects[target].box
        others = [item.box for i, item in enumerate(self.scene.objects) if i != target]
        return None if any(geometry.box_iou(box, other) > 0.6 for other in others) else target

    def points(self, target: int, count: int) -> list[tuple[int, int]] | None:
        """Points (x, y), 0..1000, inside an object and off its edge; None if it is too thin for that."""
        mask = self.scene.objects[target].mask
        inner = mask.copy()
        for axis in (0, 1):
            for step in (-2, 2):
                inner &= np.roll(mask, step, axis)
        rows, columns = np.nonzero(inner)
        if len(rows) == 0:
            return None
        chosen = self.rng.integers(len(rows), size=count)
        width, height = self.scene.size
        return [
            (int(1000 * (columns[i] + 0.5) / width), int(1000 * (rows[i] + 0.5) / height)) for i in chosen
        ]
