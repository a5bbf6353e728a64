"""Phrases that point out objects of a scene, each of them true of exactly what it names.

Knows when a phrase is clear enough to be asked: one object answers to it, by a margin that an eye would see.
How the phrase is put into a question is `questions`' work.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from . import words
from .scenes import Scene, SceneObject

# How far apart things must be, as a fraction of the picture's side, before their order is asked about.
CLEAR_GAP = 0.07
# A conversation asks for the same phrases many times over.
_once_a_scene = lru_cache(maxsize=32)
_SIDES = ((0, "left", "right", "on the", "far"), (1, "top", "bottom", "at the", "very"))


@dataclass(frozen=True)
class Reference:
    """A phrase without article and the indices of the objects it means."""

    phrase: str
    target: tuple[int, ...]

    @property
    def thing(self) -> str:
        """The phrase as it stands in a sentence: "the lemon", "all lemons"."""
        return self.phrase if self.phrase.startswith("all ") else f"the {self.phrase}"


def answers_to(item: SceneObject, phrase: str) -> bool:
    """Whether an object may be meant by a name: its own, a synonym, or the last words of either."""
    names = (item.name, *item.synonyms)
    return any(name == phrase or name.endswith(f" {phrase}") for name in names)


@_once_a_scene
def matching(scene: Scene, phrase: str) -> tuple[int, ...]:
    """Indices of the objects that may be meant by a name."""
    return tuple(i for i, item in enumerate(scene.objects) if answers_to(item, phrase))


def is_absent(scene: Scene, phrase: str) -> bool:
    """Whether nothing in the scene could be meant by a name, however loosely it is taken."""
    return not any(answers_to(item, phrase) or phrase.endswith(f" {item.name}") for item in scene.objects)


@_once_a_scene
def by_name(scene: Scene) -> list[Reference]:
    """Names that one object has: "lemon", "blue circle"."""
    return [Reference(item.name, (i,)) for i, item in enumerate(scene.objects) if _only(scene, item.name)]


@_once_a_scene
def by_synonym(scene: Scene) -> list[Reference]:
    """Further names: "automobile" for a car."""
    return [
        Reference(name, (i,))
        for i, item in enumerate(scene.objects)
        for name in item.synonyms
        if _only(scene, name)
    ]


@_once_a_scene
def by_colour_or_shape(scene: Scene) -> list[Reference]:
    """Plain figures by half of their name: "circle", "red shape"; "red one" where all objects are figures.

    Where some have a texture, also by that: "striped circle", "striped red circle", "plain circle".
    """
    found = []
    figures = [i for i, item in enumerate(scene.objects) if item.shape is not None]
    for i in figures:
        item = scene.objects[i]
        if _only(scene, item.shape):
            found.append(Reference(item.shape, (i,)))
        if sum(scene.objects[j].colour == item.colour for j in figures) == 1:
            found.append(Reference(f"{item.colour} shape", (i,)))
            if len(figures) == len(scene.objects):
                found.append(Reference(f"{item.colour} one", (i,)))
    return found + _by_texture(scene, figures)


def _by_texture(scene: Scene, figures: list[int]) -> list[Reference]:
    found = []
    items = [scene.objects[i] for i in figures]
    for i, item in zip(figures, items, strict=True):
        alike = [other for other in items if other.texture == item.texture and other.shape == item.shape]
        others = {other.texture for other in items if other.shape == item.shape and other is not item}
        if item.texture in (None, "plain") and not others - {None, "plain"}:
            continue  # nobody would say so
        if len(alike) == 1:
            found.append(Reference(f"{item.texture} {item.shape}", (i,)))
        if sum(other.colour == item.colour for other in alike) == 1:
            found.append(Reference(f"{item.texture} {item.name}", (i,)))
    return found


@_once_a_scene
def by_position(scene: Scene) -> list[Reference]:
    """The outermost of several: "left panda", "panda at the top", "leftmost object"."""
    found = []
    for name, members in _groups(scene):
        for axis, near, far, where, degree in _SIDES:
            order = _in_order(scene, members, axis)
            for word, first, second in ((near, order[0], order[1]), (far, order[-1], order[-2])):
                if _apart(scene, first, second, axis) >= CLEAR_GAP:
                    phrases = [f"{word}most {name}", f"{name} {where} {degree} {word}"]
                    if len(members) == 2 and name != "object":
                        phrases += [f"{word} {name}", f"{name} {where} {word}"]
                    found += [Reference(phrase, (first,)) for phrase in phrases]
    return found


@_once_a_scene
def by_ordinal(scene: Scene) -> list[Reference]:
    """ "second lemon from the left"."""
    found = []
    for name, members in _groups(scene):
        if words.is_plural(name):
            continue
        for axis, ends in ((0, ("left", "right")), (1, ("top", "bottom"))):
            order = _in_order(scene, members, axis)
            pairs = zip(order, order[1:], strict=False)
            if all(_apart(scene, one, next_one, axis) >= CLEAR_GAP for one, next_one in pairs):
                for end, row in zip(ends, (order, order[::-1]), strict=True):
                    numbered = zip(words.ORDINALS, row, strict=False)
                    found += [Reference(f"{number} {name} from the {end}", (i,)) for number, i in numbered]
    return found


@_once_a_scene
def by_relation(scene: Scene) -> list[Reference]:
    """ "lemon left of the cat", "object above the star", "star next to the car".

    Phrases whose noun alone would not do come alone if there are any, for they are what the relation is for.
    """
    easy, needed = [], []
    groups = [(name, members) for name, members in _groups(scene, smallest=1)]
    for anchor in by_name(scene):
        other = anchor.target[0]
        for name, members in groups:
            members = [i for i in members if i != other]
            for relation in RELATIONS:
                found = single(scene, members, other, relation)
                if found is not None:
                    reference = Reference(f"{name} {relation} the {anchor.phrase}", (found,))
                    (needed if len(members) > 1 else easy).append(reference)
    return needed or easy


@_once_a_scene
def by_size(scene: Scene) -> list[Reference]:
    """ "largest lemon", "smaller star", "biggest object"."""
    found = []
    for name, members in _groups(scene):
        order = sorted(members, key=lambda i: scene.objects[i].area)
        two = len(order) == 2 and name != "object"
        if _larger(scene, order[-1], order[-2]):
            phrases = ("largest", "biggest", "larger", "bigger") if two else ("largest", "biggest")
            found += [Reference(f"{word} {name}", (order[-1],)) for word in phrases]
        if _larger(scene, order[1], order[0]):
            phrases = ("smallest", "smaller") if two else ("smallest",)
            found += [Reference(f"{word} {name}", (order[0],)) for word in phrases]
    return found


@_once_a_scene
def all_of_a_kind(scene: Scene) -> list[Reference]:
    """ "all lemons", "all circles", "all red shapes", "all objects"."""
    found = [Reference(f"all {words.plural(name)}", tuple(members)) for name, members in _groups(scene)]
    colours = [item.colour for item in scene.objects if item.colour is not None]
    for colour in dict.fromkeys(colours):
        if colours.count(colour) > 1:
            members = tuple(i for i, item in enumerate(scene.objects) if item.colour == colour)
            found.append(Reference(f"all {colour} shapes", members))
    return found


Way = Callable[[Scene], list[Reference]]
TO_ONE: tuple[Way, ...] = (by_synonym, by_colour_or_shape, by_position, by_ordinal, by_relation, by_size)

RELATIONS = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1), "next to": None}


def holds(scene: Scene, one: int, relation: str, other: int) -> bool | None:
    """Whether `one` stands in the relation to `other`; None if it is too close to call."""
    if RELATIONS[relation] is None:
        gap = _gap(scene, one, other)
        return True if gap <= 0.06 else (False if gap >= 0.2 else None)
    axis, sign = RELATIONS[relation]
    along = sign * _difference(scene, one, other, axis)
    across = abs(_difference(scene, one, other, 1 - axis))
    if along >= 0.12 and along >= 0.7 * across:
        return True
    return False if along <= 0.02 else None


def single(scene: Scene, members: list[int], other: int, relation: str) -> int | None:
    """The one of `members` that stands in the relation to `other`, if every other one clearly does not."""
    verdicts = [holds(scene, i, relation, other) for i in members]
    if verdicts.count(True) == 1 and None not in verdicts:
        return members[verdicts.index(True)]
    return None


def _only(scene: Scene, name: str) -> bool:
    return len(matching(scene, name)) == 1


def _groups(scene: Scene, smallest: int = 2) -> Iterator[tuple[str, list[int]]]:
    """The nouns of a scene and what they cover: names, shapes, and "object" for everything."""
    nouns = [noun for item in scene.objects for noun in (item.name, item.shape) if noun is not None]
    for noun in dict.fromkeys(nouns):
        members = matching(scene, noun)
        if len(members) >= smallest:
            yield noun, list(members)
    if len(scene.objects) >= max(2, smallest):
        yield "object", list(range(len(scene.objects)))


def _difference(scene: Scene, one: int, other: int, axis: int) -> float:
    """How far the centre of `one` lies beyond that of `other`, as a fraction of the picture's side."""
    return (scene.objects[one].centre[axis] - scene.objects[other].centre[axis]) / scene.size[axis]


def _apart(scene: Scene, one: int, other: int, axis: int) -> float:
    return abs(_difference(scene, one, other, axis))


def _in_order(scene: Scene, members: list[int], axis: int) -> list[int]:
    return sorted(members, key=lambda i: scene.objects[i].centre[axis])


def _gap(scene: Scene, one: int, other: int) -> float:
    """Free space between two boxes, as a fraction of the picture's shorter side; 0 where they touch."""
    first, second = scene.objects[one].box, scene.objects[other].box
    x = max(first[0] - second[2], second[0] - first[2], 0)
    y = max(first[1] - second[3], second[1] - first[3], 0)
    return (x * x + y * y) ** 0.5 / min(scene.size)


def _larger(scene: Scene, one: int, other: int) -> bool:
    """Whether the eye sees it: by the visible pixels and by the box."""
    first, second = scene.objects[one], scene.objects[other]
    return first.area >= 1.5 * second.area and _extent(first) >= 1.3 * _extent(second)


def _extent(item: SceneObject) -> int:
    x0, y0, x1, y1 = item.box
    return (x1 - x0) * (y1 - y0)
