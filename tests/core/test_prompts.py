"""The wording of every template against the paper's tables, and slots that fail by name."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from himtok_core import markup, prompts
from himtok_core.errors import PromptError

# The wordings of tables 14 to 20, every slot written as {}.
TABLES = json.loads((Path(__file__).parents[1] / "data" / "templates.json").read_text(encoding="utf-8"))

RUN = "<|mt_start|><|mt_5|><|mt_1023|><|mt_end|>"
VALUES = {
    "phrase": ("red apple", "red apple"),
    "detail": (" on the left", " on the left"),
    "box": ((10, 20, 300, 400), "[[10, 20, 300, 400]]"),
    "points": ([(1, 2), (30, 40)], "[[1, 2], [30, 40]]"),
    "mask": ((5, 1023), RUN),
    "tokens": (16, "16"),
}
SLOTS_OF_TABLE = {
    "table 14": ["phrase"],
    "table 15": ["mask", "box"],
    "table 16": ["box", "points"],
    "table 17": ["points"],
    "table 18": ["mask"],
    "table 19": ["phrase", "detail", "tokens"],
    "table 20, instructions": ["phrase"],
    "table 20, responses": ["box"],
}
TEMPLATE_OF_TABLE = {
    "table 14": "segment_then_ground",
    "table 15": "segment_then_ground_response",
    "table 16": "segment_from_box_and_points",
    "table 17": "segment_from_points",
    "table 18": "segment_response",
    "table 19": "segment_with_length",
    "table 20, instructions": "ground",
    "table 20, responses": "ground_response",
}


@pytest.mark.parametrize(
    ("table", "variant"), [(table, variant) for table in TABLES for variant in range(len(TABLES[table]))]
)
def test_every_wording_of_the_tables(table: str, variant: int) -> None:
    slots = SLOTS_OF_TABLE[table]
    expected = TABLES[table][variant].format(*(VALUES[slot][1] for slot in slots))
    rendered = prompts.render(
        TEMPLATE_OF_TABLE[table], variant=variant, **{slot: VALUES[slot][0] for slot in slots}
    )
    assert rendered == expected


def test_the_tables_are_whole() -> None:
    for table, name in TEMPLATE_OF_TABLE.items():
        assert len(prompts.TEMPLATES[name].variants) == len(TABLES[table])
        assert prompts.TEMPLATES[name].source == table
    others = set(prompts.names()) - set(TEMPLATE_OF_TABLE.values())
    assert others == {"segment", "reason", "released_response", "choose"}


def test_the_plain_forms_of_the_released_model() -> None:
    assert prompts.render("segment", phrase="red apple") == "Segment <ref>red apple</ref>."
    question = "\nWhat is the object and mask in the image?"
    assert prompts.render("reason", phrase="Which one is sour?") == "Which one is sour?" + question
    assert prompts.render("reason", phrase="the sour one", variant=1) == "What is the sour one?" + question
    assert prompts.render("released_response", mask=[5, 1023]) == f"The mask appears at {RUN}."


def test_a_choice_has_its_options_in_lettered_lines() -> None:
    asked = prompts.render("choose", mask=[5, 1023], options=["red apple", " pear "])
    assert asked == f"What does the mask {RUN} show?\nA. red apple\nB. pear"


def test_wordings_are_clean() -> None:
    for template in prompts.TEMPLATES.values():
        slots = template.slots
        for wording in template.variants:
            assert tuple(re.findall(r"{(\w+)}", wording)) == slots
            assert not set("`'\"“”") & set(wording)


def test_a_response_is_parsed_back() -> None:
    boxes = ((1, 2, 3, 4), (5, 6, 7, 8))
    text = prompts.render("segment_then_ground_response", variant=3, mask=(5, 1023), box=boxes)
    spans = markup.parse(text)
    assert [span.tokens for span in spans if isinstance(span, markup.MaskSpan)] == [(5, 1023)]
    assert [span.boxes for span in spans if isinstance(span, markup.BoxSpan)] == [boxes]
    assert not any(span.problem for span in spans)


def test_instructions_name_a_response_that_has_what_they_ask_for() -> None:
    for template in prompts.TEMPLATES.values():
        if template.response is None:
            continue
        response = prompts.TEMPLATES[template.response]
        assert response.response is None
        assert response.expects_mask == template.expects_mask == ("mask" in response.slots)


def test_slots_fail_by_name() -> None:
    with pytest.raises(PromptError, match="'detail'.*'segment_with_length' is missing"):
        prompts.render("segment_with_length", phrase="cup", tokens=4)
    with pytest.raises(PromptError, match="'segment' has no slot 'color', only phrase"):
        prompts.render("segment", phrase="cup", color="red")
    with pytest.raises(PromptError, match="no template 'segmant'.*segment_then_ground"):
        prompts.render("segmant", phrase="cup")
    with pytest.raises(PromptError, match="variants 0 to 9, not 10"):
        prompts.render("segment_response", variant=10, mask=[1])


@pytest.mark.parametrize(
    ("name", "slots", "wrong"),
    [
        ("segment", {"phrase": "  "}, "phrase"),
        ("segment", {"phrase": None}, "phrase"),
        ("segment", {"phrase": "cup</ref> <ref>dog"}, "phrase"),
        ("segment_with_length", {"phrase": "cup", "detail": RUN, "tokens": 4}, "detail"),
        ("segment_with_length", {"phrase": "cup", "detail": "", "tokens": 0}, "tokens"),
        ("segment_with_length", {"phrase": "cup", "detail": "", "tokens": 33}, "tokens"),
        ("segment_with_length", {"phrase": "cup", "detail": "", "tokens": 4.0}, "tokens"),
        ("segment_from_points", {"points": []}, "points"),
        ("segment_from_points", {"points": [(1, 2, 3)]}, "points"),
        ("segment_from_points", {"points": [(1, 1001)]}, "points"),
        ("segment_from_points", {"points": (1, 2)}, "points"),
        ("ground_response", {"box": (5, 1, 4, 2)}, "box"),
        ("ground_response", {"box": (-1, 1, 4, 2)}, "box"),
        ("ground_response", {"box": (float("nan"), 1, 4, 2)}, "box"),
        ("ground_response", {"box": 7}, "box"),
        ("segment_response", {"mask": []}, "mask"),
        ("segment_response", {"mask": [1024]}, "mask"),
        ("segment_response", {"mask": range(33)}, "mask"),
        ("choose", {"mask": [1], "options": "pear"}, "options"),
        ("choose", {"mask": [1], "options": ["pear"]}, "options"),
        ("choose", {"mask": [1], "options": list("abcdef")}, "options"),
        ("choose", {"mask": [1], "options": ["pear", "pear"]}, "options"),
        ("choose", {"mask": [1], "options": ["pear", "<ref>cat</ref>"]}, "options"),
    ],
)
def test_a_wrong_value_names_its_slot(name: str, slots: dict[str, object], wrong: str) -> None:
    with pytest.raises(PromptError, match=f"The slot '{wrong}'"):
        prompts.render(name, **slots)


def test_numbers_may_come_from_numpy() -> None:
    assert "<box>[[1, 2, 3, 4]]</box>" in prompts.render("ground_response", box=np.array([1.2, 2, 3, 4]))
    assert "<|mt_start|><|mt_3|><|mt_end|>" in prompts.render("segment_response", mask=np.array([3]))
