"""What can be asked, and that the page shows exactly what is sent."""

import re
from html import unescape

import pytest

from demo import questions
from demo.questions import CHOICE
from himtok_core import Chat, PromptError
from himtok_core.markup import mask_run

MASK = (5, 1023)


def shown_prompt(html: str) -> str:
    return unescape(re.sub("<[^>]+>", "", re.search("<code>(.*)</code>", html, flags=re.S).group(1)))


@pytest.mark.parametrize("kind", list(questions.KINDS))
def test_the_preview_is_exactly_what_is_sent(kind: str) -> None:
    text = "the apple's <left>, & \"red\" half"
    prompt = questions.make_prompt(kind, text, MASK).text
    shown = shown_prompt(questions.preview_html(kind, text, MASK))
    assert shown.replace("mask2 tokens", "") == prompt  # a mask is shown as a chip that holds its tokens


def test_each_kind_asks_for_what_it_says() -> None:
    prompts = {kind: questions.make_prompt(kind, "red apple") for kind in questions.KINDS if kind != CHOICE}
    assert prompts["Segment"].text == "Segment <ref>red apple</ref>."
    assert "<ref>red apple</ref>" in prompts["Segment + box"].text and "box" in prompts["Segment + box"].text
    assert "<ref>red apple</ref>" in prompts["Box only"].text
    assert prompts[questions.FREE].text == "red apple"
    assert [prompt.expects_mask for prompt in prompts.values()] == [True, True, False, False]
    choice = questions.make_prompt(CHOICE, "pig, lion ;red apple,", MASK)
    assert choice.text.endswith(f"{mask_run(MASK)} show?\nA. pig\nB. lion\nC. red apple")
    assert not choice.expects_mask


def test_a_choice_needs_a_mask_and_two_things() -> None:
    with pytest.raises(PromptError, match="segment something first"):
        questions.make_prompt(CHOICE, "pig, lion")
    with pytest.raises(PromptError, match="2 to 5 different phrases"):
        questions.make_prompt(CHOICE, "pig", MASK)
    assert "segment something first" in questions.preview_html(CHOICE, "pig, lion")


def test_suggested_choices_hold_what_is_there_in_no_telling_order() -> None:
    names, concepts = ["pig", "ant"], ["ant", "car", "bee", "cow", "dog", "eel", "fox"]
    html = questions.suggestions_html(CHOICE, names, concepts)
    assert re.findall('data-text="(.*?)"', html) == ["ant, bee, car, pig", "cow, dog, eel, pig"]
    assert "data-text" not in questions.suggestions_html(CHOICE, [], [])


@pytest.mark.parametrize("kind", list(questions.KINDS))
def test_nothing_typed_sends_nothing_and_previews_the_form(kind: str) -> None:
    with pytest.raises(PromptError):
        questions.make_prompt(kind, "  ")
    assert "problem" not in questions.preview_html(kind, "  ")


def test_a_tag_inside_a_phrase_is_explained_before_it_is_sent() -> None:
    html = questions.preview_html("Segment", "<ref>cat</ref>")
    assert 'class="problem"' in html and "<ref>" not in html
    with pytest.raises(PromptError):
        questions.make_prompt("Segment", "<ref>cat</ref>")


def test_suggestions_begin_with_what_is_in_the_picture_and_name_nothing_twice() -> None:
    html = questions.suggestions_html("Segment", ["pear", "snail"], ["apple", "pear", "rocket"])
    assert re.findall('data-text="(.*?)"', html) == ["pear", "snail", "apple", "rocket"]
    asked = re.findall('data-text="(.*?)"', questions.suggestions_html(questions.FREE, ["pear"], ["apple"]))
    assert asked == [*questions.QUESTIONS, "Where is the pear?"]


def test_only_an_answer_about_one_thing_invites_questions_about_it() -> None:
    first, then = (
        re.findall('data-text="(.*?)"', questions.suggestions_html(questions.FREE, ["pear"], [], about_one))
        for about_one in (False, True)
    )
    assert then == [*questions.FOLLOW_UPS, *first]
    named = questions.suggestions_html("Segment", ["pear"], [], True)
    assert named == questions.suggestions_html("Segment", ["pear"], [])


def test_the_note_lists_what_a_small_model_knows_and_says_how_to_load_another(tiny_chat: Chat) -> None:
    assert questions.note_html(tiny_chat) == ""
    small = Chat(tiny_chat.model, tiny_chat.processor, "small", ({"name": "pear"}, {"name": "red <circle>"}))
    html = questions.note_html(small)
    assert "it knows 2 drawn things" in html and "red &lt;circle&gt;" in html and "--model" in html
