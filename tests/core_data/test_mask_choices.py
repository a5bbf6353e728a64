"""Multiple-choice items about masks: one answer fits, or as many as the letters say, and nothing else."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from himtok_core.data.described_objects import DescribedObject
from himtok_core.data.mask_choices import LETTERS, build_choices, statistics
from himtok_core.data.words import plain

NOUNS = "cat dog car tree boat chair lamp horse pizza clock zebra kite".split()
VERBS = "painted broken shiny furry wooden".split()


def square(place: int) -> Callable[[], np.ndarray]:
    mask = np.zeros((20, 20), dtype=bool)
    mask[:10, 4 * place : 4 * place + 4] = True
    return lambda: mask


def pictures(count: int = 40) -> list[DescribedObject]:
    """Pictures with one to four things of different kinds, each with three expressions."""
    rng = np.random.default_rng(3)
    found = []
    for picture in range(count):
        for place, noun in enumerate(rng.choice(NOUNS, size=1 + picture % 4, replace=False)):
            texts = (str(noun), f"the {rng.choice(VERBS)} {noun}", f"{noun} number {place + 1}")
            name = f"{picture}:{place}"
            found.append(DescribedObject(name, f"{picture}.jpg", texts, str(noun), square(place)))
    return found


def items(multiple: bool, seed: int = 0, count: int | None = 200) -> list:
    return list(build_choices(pictures(), count, multiple, np.random.default_rng(seed)))


@pytest.mark.parametrize("multiple", [False, True])
def test_exactly_the_right_letters_fit(multiple: bool) -> None:
    for item in items(multiple):
        fitting = [text in item.target.expressions for text in item.options]
        assert "".join(letter for letter, fits in zip(LETTERS, fitting) if fits) == item.right
        assert len({plain(text) for text in item.options}) == 4
        # Each noun is one kind of thing here: a wrong option never names the target's.
        noun = item.target.expressions[0]
        assert sum(noun in text.split() for text in item.options) == len(item.right)


def test_testing_has_one_right_option_and_training_up_to_three() -> None:
    assert {len(item.right) for item in items(multiple=False)} == {1}
    assert {len(item.right) for item in items(multiple=True)} == {1, 2, 3}


def test_letters_are_balanced() -> None:
    assert Counter(item.right for item in items(multiple=False)) == dict.fromkeys("ABCD", 50)
    by_size = Counter(item.right for item in items(multiple=True))
    pairs = [count for letters, count in by_size.items() if len(letters) == 2]
    assert len(pairs) == 6 and max(pairs) - min(pairs) <= 1


def test_wrong_options_come_from_the_same_picture_and_from_others() -> None:
    made = items(multiple=False)
    alone = [item for item in made if int(item.target.picture.split(".")[0]) % 4 == 0]
    assert alone and all(item.near == 0 for item in alone)
    crowded = [item.near for item in made if int(item.target.picture.split(".")[0]) % 4 == 3]
    assert {0, 1, 2, 3} >= set(crowded) and 0.5 < np.mean(crowded) < 2.5


def test_the_seed_decides_everything() -> None:
    def told(seed: int) -> list:
        return [(item.target.id, item.options, item.right) for item in items(True, seed)]

    assert told(5) == told(5)
    assert told(5) != told(6)


def test_at_most_one_item_for_each_expression() -> None:
    made = items(multiple=False, count=None)
    right = [(item.target.id, item.options[LETTERS.index(item.right)]) for item in made]
    assert len(right) == len(set(right)) <= 3 * len(pictures())
    assert len(right) > 0.9 * 3 * len(pictures())


def thing(name: str, picture: str, *texts: str, kind: str | None, place: int = 0) -> DescribedObject:
    return DescribedObject(name, picture, texts, kind, square(place))


def options_for(name: str, objects: list[DescribedObject]) -> set[str]:
    """Every expression that ever stands beside a right one for an object."""
    found = set()
    for seed in range(30):
        for item in build_choices(objects, None, False, np.random.default_rng(seed)):
            if item.target.id == name:
                found |= set(item.options)
    return found


OTHERS = [
    thing("x", "x.jpg", "wooden boat", kind="boat"),
    thing("y", "y.jpg", "zebra", kind="zebra"),
    thing("z", "z.jpg", "broken clock", kind="clock"),
    thing("w", "w.jpg", "kite", kind="kite"),
]


def test_expressions_of_one_object_in_two_data_sets_are_never_wrong() -> None:
    objects = [
        thing("1", "a.jpg", "cat on the left", kind="cat"),
        thing("1", "a.jpg", "furry animal", kind="cat"),
        *OTHERS,
    ]
    for item in build_choices(objects, None, False, np.random.default_rng(0)):
        if item.target.id == "1":
            assert not {"cat on the left", "furry animal"} <= set(item.options)


def test_an_object_that_was_marked_twice_is_one() -> None:
    objects = [
        thing("1", "a.jpg", "tall lamp", kind="lamp"),
        thing("2", "a.jpg", "light", kind="light"),  # the same pixels
        thing("3", "a.jpg", "red car", kind="car", place=2),
        *OTHERS,
    ]
    found = options_for("1", objects)
    assert "red car" in found and "light" not in found


def test_a_vaguer_expression_fits_too() -> None:
    objects = [
        thing("1", "a.jpg", "man in a red shirt", kind="person"),
        thing("2", "a.jpg", "Red shirt!", kind="person", place=2),
        thing("3", "a.jpg", "boy in blue", kind="person", place=3),
        *OTHERS,
    ]
    found = options_for("1", objects)
    assert "boy in blue" in found and "Red shirt!" not in found


def test_expressions_of_other_pictures_must_name_another_kind_of_thing() -> None:
    objects = [
        thing("1", "a.jpg", "furry cat", kind="cat"),
        thing("2", "b.jpg", "sleepy kitten", kind="cat"),  # of the same kind
        thing("3", "c.jpg", "the biggest one on the left", kind="dog"),  # may be true in any picture
        thing("4", "d.jpg", "left person in red", kind="person"),
        thing("5", "e.jpg", "furry dog", kind="dog"),  # shares a telling word
        *OTHERS,
    ]
    assert options_for("1", objects) == {"furry cat", "wooden boat", "zebra", "broken clock", "kite"}


def test_no_item_where_too_little_is_wrong() -> None:
    objects = [thing("1", "a.jpg", "cat", kind="cat"), thing("2", "b.jpg", "dog", kind="dog")]
    assert list(build_choices(objects, None, False, np.random.default_rng(0))) == []
    assert list(build_choices([], None, False, np.random.default_rng(0))) == []


def test_statistics_add_up() -> None:
    made = items(multiple=True, count=100)
    facts = statistics(made)
    assert facts["items"] == sum(facts["positives"].values()) == 100
    right = sum(int(size) * count for size, count in facts["positives"].items())
    assert sum(facts["letters"].values()) == right
    assert sum(facts["negatives"].values()) == 400 - right
    assert facts["negatives"]["same picture"] == sum(item.near for item in made)
    assert facts["pictures"] == len({item.target.picture for item in made}) <= 40
    assert statistics([])["letters"] == dict.fromkeys("ABCD", 0)
