"""Questions that lean on the turn before: what "it" is, and which of them are asked."""

import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from himtok_core import markup
from himtok_core.data.answers import MASK, Question, with_box, with_mask
from himtok_core.data.follow_ups import KINDS, MOST_TURNS, converse, follow_up
from himtok_core.data.scenes import Scene, SceneObject, make_scene
from himtok_core.data.world import World

FULL = World.full()


def thing(name: str, x0: int, y0: int, x1: int, y1: int) -> SceneObject:
    mask = np.zeros((100, 200), dtype=bool)
    mask[y0:y1, x0:x1] = True
    colour, _, shape = name.partition(" ")
    figure = shape == "circle"
    box = (x0, y0, x1, y1)
    return SceneObject(name, (), shape if figure else None, colour if figure else None, "noto", mask, box)


# From left to right: a lemon, a cat, a lemon and a blue circle.
ROW = Scene(
    0,
    Image.new("RGB", (200, 100)),
    (
        thing("lemon", 10, 40, 30, 60),
        thing("cat", 60, 40, 80, 60),
        thing("lemon", 110, 40, 130, 60),
        thing("blue circle", 160, 40, 180, 60),
    ),
)


def asked(before: Question, kind: str, seed: int = 0) -> Question | None:
    return follow_up(ROW, before, kind, np.random.default_rng(seed), FULL)


def test_its_box_and_its_mask_are_those_of_the_object_before() -> None:
    box = asked(with_mask(ROW, "segment", "Segment the cat.", (1,)), "its_box")
    assert box.target == (1,) and "<box>[[300, 400, 400, 600]]</box>" in box.answer
    mask = asked(with_box(ROW, "box", "Box the cat.", 1), "its_mask")
    assert mask.target == (1,) and np.array_equal(mask.answer_masks[0], ROW.objects[1].mask)
    again = asked(mask, "its_mask_with_length")
    assert re.search(rf"\b{again.mask_tokens} ", again.prompt) and again.target == (1,)
    assert asked(mask, "its_mask") is None and asked(box, "its_box") is None, "it was just answered"


def test_the_one_beside_it_is_the_only_one_there() -> None:
    """Left of the cat is one lemon; right of it two things, which no singular can mean."""
    before = with_mask(ROW, "segment", "Segment the cat.", (1,))
    prompts = Counter()
    for seed in range(60):
        found = asked(before, "one_beside", seed)
        assert found.target == (0,) and found.answer_masks and "to its left" in found.prompt
        prompts[found.prompt] += 1
    assert len(prompts) > 10
    by_box = asked(with_box(ROW, "box", "Box the cat.", 1), "one_beside")
    assert not by_box.answer_masks and "<box>" in by_box.answer and by_box.target == (0,)
    name = asked(
        Question("what_is_at", "What is at [[350, 500]]?", "It is a cat.", target=(1,)), "one_beside"
    )
    assert name.answer == "It is a lemon." and name.target == (0,)


def test_the_other_one_of_two() -> None:
    before = with_mask(ROW, "segment_position", "Segment the left lemon.", (0,))
    assert asked(before, "other").target == (2,)
    assert asked(with_mask(ROW, "segment", "Segment the cat.", (1,)), "other") is None


def test_the_same_for_another_thing() -> None:
    before = with_box(ROW, "box", "Box the left lemon.", 0)
    found = [asked(before, "the_same_for", seed) for seed in range(20)]
    assert {question.target for question in found} == {(1,), (3,)}, "a lemon alone would not say which"
    assert all("<box>" in question.answer and not question.answer_masks for question in found)


def test_names_and_colours_are_asked_only_while_they_are_unknown() -> None:
    leftmost = with_mask(ROW, "segment_position", "Segment the leftmost object.", (0,))
    assert asked(leftmost, "its_name").answer == "It is a lemon."
    assert asked(with_mask(ROW, "segment", "Segment the lemon.", (0,)), "its_name") is None
    circle = with_mask(ROW, "segment_colour_shape", "Segment the circle.", (3,))
    assert asked(circle, "its_colour").answer == "The circle is blue."
    assert asked(with_mask(ROW, "segment", "Segment the blue circle.", (3,)), "its_colour") is None
    assert asked(leftmost, "its_colour") is None, "drawings have no one colour"


def test_how_many_of_them() -> None:
    before = with_mask(ROW, "segment_position", "Segment the left lemon.", (0,))
    found = asked(before, "how_many_of_them")
    assert found.answer == "There are 2 lemons in the picture." and found.target == (0, 2)
    nameless = with_mask(ROW, "segment_position", "Segment the leftmost object.", (0,))
    assert asked(nameless, "how_many_of_them") is None


def test_nothing_leans_on_several_objects_or_none() -> None:
    for before in (
        Question("describe", "What do you see?", "...", target=(0, 1)),
        Question("absent", "Segment the dog.", "There is no dog in the picture."),
    ):
        assert all(asked(before, kind) is None for kind in KINDS)
    with pytest.raises(ValueError, match="weather.*its_box"):
        asked(with_box(ROW, "box", "Box the cat.", 1), "weather")


def test_plurals_are_them() -> None:
    cherries = Scene(0, ROW.picture, (thing("cherries", 10, 40, 30, 60),))
    before = with_mask(cherries, "segment", "Segment the cherries.", (0,))
    for seed in range(20):
        prompt = follow_up(cherries, before, "its_box", np.random.default_rng(seed), FULL).prompt
        assert re.search(r"\b(their|them)\b", prompt) and not re.search(r"\bits?\b", prompt)


def test_conversations_have_one_to_six_turns_and_lean_on_themselves() -> None:
    kinds, lengths = Counter(), Counter()
    for seed in range(200):
        rng = np.random.default_rng([7, seed])
        scene = make_scene(seed, FULL)
        turns = converse(scene, rng, FULL, int(rng.integers(1, MOST_TURNS + 1)))
        lengths[len(turns)] += 1
        assert turns and turns[0].kind not in KINDS
        for question in turns:
            assert question.answer.count(MASK) == len(question.answer_masks)
            spans = markup.parse(question.answer.replace(MASK, markup.mask_run([1])))
            assert not any(span.problem for span in spans) and not set("{}") & set(question.prompt)
            kinds[question.kind] += 1
    assert set(lengths) == set(range(1, MOST_TURNS + 1))
    leaning = sum(kinds[kind] for kind in KINDS)
    assert 0.2 < leaning / sum(kinds.values()) < 0.5
    assert set(KINDS) - {"other"} <= set(kinds), "two things of one name are rare"
