"""The result page: nothing that a model wrote can become markup, and masks are drawn where they are."""

import numpy as np
from PIL import Image

from himtok_core.evaluation import page
from tests.evaluation.datasets import CIRCLE, CIRCLE_RLE, SQUARE, picture

EVIL = '<img src=x onerror="alert(1)"><script>alert(2)</script>'


def case(**changes: object) -> page.Case:
    row = {"id": "1", "prompt": "p", "reply": "r", "masks": [], "boxes": [], "score": 0.25}
    return page.Case(row | changes, picture(), [])


def test_everything_is_escaped() -> None:
    evil = case(id=EVIL, prompt=EVIL, reply=EVIL, problems=[EVIL], extra={EVIL: EVIL})
    text = page.write(EVIL, {EVIL: EVIL, "number": 0.123456789}, [evil], [evil])
    assert "<script" not in text and "<img src=x" not in text and "onerror=&quot;" in text
    assert "0.1235" in text and text.count('<img alt="" src="data:image/jpeg;base64,') == 2


def test_numbers_are_short_and_what_is_missing_is_a_dash() -> None:
    facts = {"small": {"cIoU": float("nan"), "count": 0, "gIoU": None}, "list": [0.123456, "a"]}
    text = page.write("t", facts, [], [])
    assert "cIoU –, count 0, gIoU –" in text and "0.1235 a" in text


def test_mask_runs_are_cut_short() -> None:
    run = "It is <|mt_start|><|mt_3|><|mt_9|><|mt_end|>, there <|mt_start|><|mt_1|>"
    text = page.write("t", {}, [case(reply=run)], [])
    assert "It is ⟨mask⟩, there ⟨mask⟩" in text and "<h2>Best" not in text


def test_masks_and_boxes_are_drawn() -> None:
    row = {"id": "1", "masks": [CIRCLE_RLE, None], "boxes": [None, (8, 40, 20, 60)]}
    blank = Image.new("RGB", (96, 64), "white")
    drawn = np.asarray(page.draw(page.Case(row, blank, [SQUARE]))).astype(int)
    assert drawn.shape == (3 * 64, 3 * 96, 3)
    assert drawn[3 * 32, 3 * 64, 0] > drawn[3 * 32, 3 * 64, 1] + 80  # red in the circle
    assert tuple(drawn[3 * 8, 3 * 20]) == page.GREEN and tuple(drawn[3 * 20, 3 * 20]) == (255, 255, 255)
    assert tuple(drawn[3 * 50, 3 * 8]) == page.RED


def test_large_pictures_become_small_and_outlines_stay() -> None:
    truth = np.zeros((1500, 3000), dtype=bool)
    truth[500:1000, 500:1000] = True
    drawn = page.draw(page.Case({"masks": [], "boxes": []}, Image.new("RGB", (3000, 1500)), [truth]))
    assert drawn.size == (page.SIDE, page.SIDE // 2)
    assert (np.asarray(drawn) == page.GREEN).all(axis=2).sum() >= 4 * 55


def test_a_case_without_a_picture() -> None:
    assert page.draw(page.Case({"masks": [CIRCLE_RLE]}, None, [])).size == (3 * 96, 3 * 64)
    assert page.draw(page.Case({"masks": []}, None, [CIRCLE])).size == (3 * 96, 3 * 64)
    assert page.draw(page.Case({"masks": []}, None, [])) is None
