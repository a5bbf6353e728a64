"""Phrases that point things out, on scenes laid out by hand, and the words they are made of."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from himtok_core.data import references, words
from himtok_core.data.scenes import Scene, SceneObject


def thing(name: str, x0: int, y0: int, x1: int, y1: int, synonyms: tuple[str, ...] = ()) -> SceneObject:
    """A box-shaped object of a picture of 200 x 100 pixels; "red circle" is a plain figure."""
    mask = np.zeros((100, 200), dtype=bool)
    mask[y0:y1, x0:x1] = True
    colour, _, shape = name.partition(" ")
    figure = shape in ("circle", "star")
    return SceneObject(
        name, synonyms, shape if figure else None, colour if figure else None, "noto", mask, (x0, y0, x1, y1)
    )


def scene(*objects: SceneObject) -> Scene:
    return Scene(0, Image.new("RGB", (200, 100)), objects)


def phrases(found: list[references.Reference]) -> dict[str, tuple[int, ...]]:
    return {reference.phrase: reference.target for reference in found}


# Two lemons, left (small, high) and right (large, low), a cat between them.
TWO_LEMONS = scene(
    thing("lemon", 10, 10, 30, 30), thing("cat", 80, 40, 110, 70), thing("lemon", 140, 50, 190, 95)
)
ROW = scene(*(thing("bus", x, 40, x + 20, 60) for x in (90, 10, 160, 50)))


def test_a_name_must_be_unique() -> None:
    assert phrases(references.by_name(TWO_LEMONS)) == {"cat": (1,)}
    red, green = thing("red apple", 0, 0, 9, 9, ("apple",)), thing("green apple", 50, 0, 60, 9)
    assert phrases(references.by_synonym(scene(red))) == {"apple": (0,)}
    assert phrases(references.by_synonym(scene(red, green))) == {}, "a green apple is an apple too"


def test_the_last_word_of_a_name_is_a_name() -> None:
    wild = scene(thing("cat", 0, 0, 9, 9), thing("black cat", 50, 0, 60, 9))
    assert phrases(references.by_name(wild)) == {"black cat": (1,)}
    assert not references.is_absent(wild, "cat")
    assert references.is_absent(wild, "at"), "part of a word is no name"
    assert not references.is_absent(wild, "grey cat"), "it could be the plain cat"


def test_textures_tell_figures_apart() -> None:
    red, other = thing("red circle", 0, 0, 9, 9), thing("red circle", 50, 0, 60, 9)
    star = thing("blue star", 100, 0, 120, 20)
    plain, plain_star = replace(other, texture="plain"), replace(star, texture="plain")
    both = scene(replace(red, texture="striped"), plain, plain_star)
    found = phrases(references.by_colour_or_shape(both))
    assert found["striped circle"] == found["striped red circle"] == (0,)
    assert found["plain circle"] == found["plain red circle"] == (1,) and "circle" not in found
    assert "plain star" not in found, "nobody would say so"
    alike = scene(replace(red, texture="dotted"), replace(other, texture="dotted"))
    assert not [phrase for phrase in phrases(references.by_colour_or_shape(alike)) if "dotted" in phrase]


def test_colour_and_shape() -> None:
    figures = (
        thing("red circle", 0, 0, 9, 9),
        thing("red star", 30, 0, 40, 9),
        thing("blue circle", 60, 0, 70, 9),
    )
    found = phrases(references.by_colour_or_shape(scene(*figures)))
    assert found == {"star": (1,), "blue shape": (2,), "blue one": (2,)}
    found = phrases(references.by_colour_or_shape(scene(*figures, thing("cat", 90, 0, 99, 9))))
    assert found == {"star": (1,), "blue shape": (2,)}, "a cat may be blue as well"


def test_positions() -> None:
    found = phrases(references.by_position(TWO_LEMONS))
    assert found["left lemon"] == found["leftmost lemon"] == found["lemon on the left"] == (0,)
    assert found["right lemon"] == found["lemon at the bottom"] == found["bottom lemon"] == (2,)
    assert found["topmost object"] == found["object on the far left"] == (0,)
    assert found["bottommost object"] == found["rightmost object"] == (2,)
    assert not any("cat" in phrase for phrase in found), "one cat needs no position"


def test_what_is_level_has_no_topmost() -> None:
    found = phrases(references.by_position(ROW))
    assert found["leftmost bus"] == (1,) and found["rightmost bus"] == (2,)
    assert not any("top" in phrase or "bottom" in phrase for phrase in found)
    assert "left bus" not in found, "there are several on the left"


def test_ordinals_count_from_the_side_they_name() -> None:
    found = phrases(references.by_ordinal(ROW))
    assert [found[f"{n} bus from the left"] for n in ("first", "second", "third", "fourth")] == [
        (1,), (3,), (0,), (2,)
    ]  # fmt: skip
    assert found["second bus from the right"] == (0,)
    assert not any("top" in phrase for phrase in found)


def test_relations() -> None:
    found = phrases(references.by_relation(TWO_LEMONS))
    assert found["lemon left of the cat"] == (0,) and found["lemon right of the cat"] == (2,)
    assert found["object left of the cat"] == (0,)
    assert not any(phrase.startswith("cat") for phrase in found), "a phrase that needs no relation comes last"
    pair = scene(thing("cat", 10, 40, 30, 60), thing("dog", 150, 40, 180, 60))
    found = phrases(references.by_relation(pair))
    assert found["cat left of the dog"] == (0,) and found["dog right of the cat"] == (1,)
    assert not any("next to" in phrase or "above" in phrase for phrase in found)


@pytest.mark.parametrize(
    ("x", "y", "relation", "expected"),
    [
        (20, 50, "left of", True),
        (180, 50, "left of", False),
        (95, 50, "left of", None),
        (90, 95, "left of", None),
        (100, 10, "above", True),
        (100, 90, "below", True),
        (100, 90, "above", False),
        (122, 50, "next to", True),
        (190, 90, "next to", False),
    ],
)
def test_relations_are_called_only_where_they_are_clear(
    x: int, y: int, relation: str, expected: bool | None
) -> None:
    pair = scene(thing("cat", x - 10, y - 5, x + 10, y + 5), thing("dog", 90, 45, 110, 55))
    assert references.holds(pair, 0, relation, 1) is expected


def test_next_to_means_the_one_that_is_near() -> None:
    near, far = thing("lemon", 62, 40, 80, 60), thing("lemon", 160, 40, 180, 60)
    found = phrases(references.by_relation(scene(far, near, thing("cat", 40, 40, 60, 60))))
    assert found["lemon next to the cat"] == (1,)


def test_sizes() -> None:
    found = phrases(references.by_size(TWO_LEMONS))
    assert found["larger lemon"] == found["biggest lemon"] == found["largest object"] == (2,)
    assert found["smaller lemon"] == found["smallest object"] == (0,)
    assert references.by_size(ROW) == [], "four of a size have no largest"


def test_all_of_a_kind() -> None:
    assert phrases(references.all_of_a_kind(TWO_LEMONS)) == {"all lemons": (0, 2), "all objects": (0, 1, 2)}
    figures = scene(thing("red circle", 0, 0, 9, 9), thing("red star", 30, 0, 40, 9))
    assert phrases(references.all_of_a_kind(figures)) == {"all objects": (0, 1), "all red shapes": (0, 1)}


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("lemon", "lemons"),
        ("butterfly", "butterflies"),
        ("key", "keys"),
        ("red cross", "red crosses"),
        ("bus", "buses"),
        ("octopus", "octopuses"),
        ("slice of pizza", "slices of pizza"),
        ("fish", "fish"),
        ("mouse", "mice"),
        ("green leaf", "green leaves"),
        ("cherries", "cherries"),
        ("bunch of grapes", "bunches of grapes"),
    ],
)
def test_plurals(one: str, many: str) -> None:
    assert words.plural(one) == many


def test_articles_and_lists() -> None:
    names = ("apple", "unicorn", "hourglass", "red apple", "grapes", "umbrella")
    said = ["an apple", "a unicorn", "an hourglass", "a red apple", "grapes", "an umbrella"]
    assert [words.a(name) for name in names] == said
    assert words.several(1, "fish") == "a fish" and words.several(3, "panda") == "3 pandas"
    assert words.listing(["a"]) == "a" and words.listing(["a", "b", "c"]) == "a, b and c"
    assert words.is_plural("cherries") and words.is_plural("grapes")
    assert not any(
        words.is_plural(name) for name in ("bus", "cactus", "compass", "bunch of grapes", "tennis")
    )


def test_nobody_counts_bread() -> None:
    assert words.is_uncountable("curry rice") and not words.is_uncountable("rice ball")
    assert words.a("bread") == words.plural("bread") == "bread" and words.several(2, "bread") == "2 bread"
    assert words.plural("sun behind a cloud") == "suns behind a cloud" and words.is_plural("skis")
