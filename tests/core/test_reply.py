"""Replies refuse whatever does not have the promised shape, type or range."""

import dataclasses

import numpy as np
import pytest

from himtok_core.errors import HimtokError, MaskError, PromptError
from himtok_core.reply import Prompt, Reply, ReplyObject, Timing

GOOD = {
    "label": "red apple",
    "box": (0.0, 1.5, 8.0, 6.0),
    "mask": np.zeros((6, 8), dtype=bool),
    "probability": np.full((4, 4), 0.5, dtype=np.float32),
    "tokens": (0, 1023),
    "token_probabilities": np.full((2, 1024), 1 / 1024, dtype=np.float32),
}


def test_a_good_reply() -> None:
    item = ReplyObject(**GOOD)
    reply = Reply("Here it is.", (item,), (8, 6))
    assert reply.finished and not reply.stopped and reply.problems == () and item.complete
    with pytest.raises(dataclasses.FrozenInstanceError):
        reply.text = "other"


def test_an_object_may_have_a_box_or_a_mask_only() -> None:
    assert ReplyObject("", (0, 0, 1, 1), None, None).mask is None
    assert ReplyObject("", None, GOOD["mask"], None).box is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("label", None),
        ("box", (0, 0, 1)),
        ("box", (2, 0, 1, 1)),
        ("box", (0, 0, 1, float("nan"))),
        ("mask", np.zeros((6, 8), dtype=np.uint8)),
        ("mask", np.zeros((1, 6, 8), dtype=bool)),
        ("mask", [[True]]),
        ("probability", np.zeros((4, 4), dtype=np.float64)),
        ("probability", np.zeros((4, 5), dtype=np.float32)),
        ("probability", np.full((4, 4), 1.5, dtype=np.float32)),
        ("probability", np.full((4, 4), np.nan, dtype=np.float32)),
        ("tokens", (0, 1024)),
        ("tokens", (0, -1)),
        ("tokens", (0, 1.0)),
        ("tokens", (0,) * 33),
        ("token_probabilities", np.zeros((3, 1024), dtype=np.float32)),
        ("token_probabilities", np.zeros((2, 1024), dtype=np.float64)),
        ("token_probabilities", np.full((2, 1024), -1, dtype=np.float32)),
    ],
)
def test_an_object_out_of_shape_is_refused(field: str, value: object) -> None:
    with pytest.raises(MaskError):
        ReplyObject(**(GOOD | {field: value}))


def test_objects_fit_the_picture() -> None:
    item = ReplyObject(**GOOD)
    with pytest.raises(MaskError, match=r"shape \(8, 6\).*its shape is \(6, 8\)"):
        Reply("", (item,), (6, 8))
    with pytest.raises(MaskError, match="inside the picture of 7 x 6"):
        Reply("", (ReplyObject("", GOOD["box"], None, None),), (7, 6))


@pytest.mark.parametrize("size", [(0, 5), (5,), (5.0, 5), (5, 5, 3)])
def test_a_size_is_two_positive_whole_numbers(size: tuple) -> None:
    with pytest.raises(HimtokError, match="size"):
        Reply("", (), size)


def test_a_text_is_text() -> None:
    with pytest.raises(HimtokError, match="text"):
        Reply(None, (), (5, 5))


def test_prompts() -> None:
    prompt = Prompt("Segment <ref>cup</ref>.")
    assert prompt.mask_tokens is None and not prompt.expects_mask
    for tokens in (1, 32):
        assert Prompt("x", mask_tokens=tokens).mask_tokens == tokens
    for text in ("", " \n", None):
        with pytest.raises(PromptError, match="empty"):
            Prompt(text)
    for tokens in (0, 33, 2.0, "4"):
        with pytest.raises(PromptError, match="1 to 32"):
            Prompt("x", mask_tokens=tokens)


def test_times_are_not_negative() -> None:
    seconds = {"prefill": 1.0, "first_token": 1, "decode": 0, "detokenize": 0, "total": 2}
    values = seconds | {"prompt_tokens": 5, "cached_tokens": 0, "new_tokens": 1}
    assert Timing(**values).total == 2
    for wrong in (-1, float("nan")):
        with pytest.raises(HimtokError, match="Timing.decode"):
            Timing(**(values | {"decode": wrong}))
