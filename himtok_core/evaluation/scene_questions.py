"""Which questions are asked about scenes that no training saw: by kind, by turn, and by what is drawn.

Knows held-out seeds and held-out drawings. Asking a model and scoring it is left to `scenes`.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..data import follow_ups
from ..data.questions import KINDS, Question, ask
from ..data.scenes import HELD_OUT_SEED, Scene, make_scene
from ..data.sprites import FULL_FOLDER
from ..data.world import World

QUESTIONS_PER_SCENE = 3
# How often each kind is asked: what shares a line of `bars` comes four times together, so that all lines rest
# on about the same number, one in 12.5. Of the choices only those with four options have a bar, a quarter.
SHARES: dict[str, int] = {
    **dict.fromkeys(KINDS, 1),
    **dict.fromkeys(("segment", "box", "absent", "segment_with_length"), 4),
    "mask_perception": 16,
}
# A kind that the world supports turns up long before this many scenes a question.
MOST_SCENES = 50
# The special groups of drawings: name in the tables -> what `World.full` calls it.
UNSEEN = {"new style": "new_styles", "new thing": "new_concepts"}


@dataclass(frozen=True, eq=False)
class Asked:
    """A question about a scene.

    Attributes:
        earlier: the questions of the turns before, first to last; () for one that stands alone.
        group: "" for drawings as in training, "new style" or "new thing" for those held out of it.
    """

    scene: Scene
    question: Question
    earlier: tuple[Question, ...] = ()
    group: str = ""


def held_out_questions(world: World, count: int, seed: int = 0) -> Iterator[Asked]:
    """About `count` questions of all kinds on held-out scenes, the same ones for the same arguments.

    Kinds come in the proportions of SHARES, each at least once. A scene answers up to three questions of the
    kinds that are furthest behind.
    """
    total = sum(SHARES.values())
    due = {kind: max(1, round(count * share / total)) for kind, share in SHARES.items()}
    for number in itertools.count(HELD_OUT_SEED + seed):
        wanted = [kind for kind, number_due in due.items() if number_due > 0]
        wanted.sort(key=lambda kind: -due[kind] / SHARES[kind])
        if not wanted or number >= HELD_OUT_SEED + seed + MOST_SCENES * count:
            return
        scene = make_scene(number, world)
        rng = np.random.default_rng([number, 1])
        questions = (question for kind in wanted if (question := ask(scene, kind, rng, world)) is not None)
        for question in itertools.islice(questions, QUESTIONS_PER_SCENE):
            due[question.kind] -= 1
            yield Asked(scene, question)


def held_out_follow_ups(world: World, each: int, seed: int = 0) -> Iterator[Asked]:
    """`each` questions of every kind that leans on a turn before, at the end of conversations of two to six
    turns.
    """
    due = dict.fromkeys(follow_ups.KINDS, each)
    for number in range(HELD_OUT_SEED + seed, HELD_OUT_SEED + seed + MOST_SCENES * each * len(due)):
        if not any(due.values()):
            return
        scene = make_scene(number, world)
        rng = np.random.default_rng([number, 3])
        turns = follow_ups.converse(scene, rng, world, int(rng.integers(2, follow_ups.MOST_TURNS + 1)))
        for place in range(len(turns) - 1, 0, -1):  # the last turn that is still wanted
            if due.get(turns[place].kind, 0) > 0:
                due[turns[place].kind] -= 1
                yield Asked(scene, turns[place], tuple(turns[:place]))
                break


def unseen_drawings(world: World, each: int, seed: int = 0) -> Iterator[Asked]:
    """`each` things in a style that training never drew them in, and as many that it never drew at all, asked
    for by name; none in a world without such drawings.
    """
    if world.sprites != FULL_FOLDER:
        return
    for group, drawings in UNSEEN.items():
        held_out, found = World.full(drawings), 0
        for number in itertools.count(HELD_OUT_SEED + seed):
            scene = make_scene(number, held_out)
            question = ask(scene, "segment", np.random.default_rng([number, 1]), held_out)
            if question is not None and scene.objects[question.target[0]].shape is None:
                found += 1
                yield Asked(scene, question, (), group)
            if found == each:
                break
