"""What answers say: letters, yes or no, and the normal form of short answers."""

import json
from pathlib import Path

import pytest

from himtok_core.evaluation import answers

GOLDENS = Path(__file__).parents[1] / "data" / "parity" / "mask_perception.json"
OPTIONS = {"A": "red apple", "B": "left mask", "C": "dog", "D": "vitamin C"}


@pytest.mark.parametrize(
    ("said", "letters"),
    [
        ("B", "B"),
        (" b. ", "B"),
        ("(C)", "C"),
        ("**D**", "D"),
        ("C, a dog", "C"),
        ("D. vitamin C bottle", "D"),
        ("The answer is C", "C"),
        ("the answer is b.", "B"),
        ("Option D is the right one", "D"),
        ("I think it is (A).", "A"),
        ("A", "A"),
        ("a", "A"),
        # several
        ("A, C", "AC"),
        ("A, C.", "AC"),
        ("a and c", "AC"),
        ("BD", "BD"),
        ("A. red apple\nC. dog", "AC"),
        ("Both A and D are right.", "AD"),
        # words instead of a letter
        ("the dog", "C"),
        ("A red apple", "A"),
        # no letter, however many articles
        ("A cat is shown", ""),
        ("It is a dog on a mat.", ""),
        ("The answer is a dog", ""),
        ("I see nothing", ""),
        ("E", ""),
        ("3.5", ""),
        ("maybe", ""),
        ("", ""),
    ],
)
def test_letters(said: str, letters: str) -> None:
    assert answers.chosen_letters(said, OPTIONS) == frozenset(letters)


def test_letters_of_the_reference_implementation() -> None:
    rows = json.loads(GOLDENS.read_text())["rows"]
    assert len(rows) == 112
    for said, gold, score in rows:
        letter = answers.reference_letter(said)
        chosen = letter if letter in tuple("ABCD") else "A"
        assert (chosen == answers.reference_letter(gold)) == bool(score), (said, gold)


def test_the_reference_takes_the_article_for_a_letter() -> None:
    assert answers.reference_letter("It is a dog.") == "A"
    assert answers.reference_letter("one,two (dog), 1,000") == "onetwo dog 1000"


@pytest.mark.parametrize(
    ("said", "yes"),
    [
        ("Yes", True),
        ("no", False),
        ("No, there is none.", False),
        ("There is not a dog in the picture.", False),
        ("Yes. But no cat.", True),  # the first sentence counts
        ("Nothing of the kind", True),  # the published rule knows three words
        ("NO", True),
        ("", True),
    ],
)
def test_yes_or_no_of_pope(said: str, yes: bool) -> None:
    assert answers.pope_says_yes(said) is yes


@pytest.mark.parametrize(
    ("said", "word", "translated"),
    [
        ("Yes", "yes", "yes"),
        ("no.", "no", "no"),
        (" Yes, it is", "yes", "yes"),
        ("The answer is yes", "other", "other"),
        ("not at all", "no", "no"),
        ("True", "other", "yes"),
        ("不是", "other", "no"),
        ("是的", "other", "yes"),
        ("", "other", "other"),
    ],
)
def test_yes_or_no_of_mme(said: str, word: str, translated: str) -> None:
    assert answers.mme_answer(said) == word
    assert answers.mme_answer(said, translate=True) == translated


def test_yes_or_no_at_all() -> None:
    assert answers.says_yes_or_no("Yes, it is.") and answers.says_yes_or_no("there is NO dog")
    assert not answers.says_yes_or_no("nothing") and not answers.says_yes_or_no("a dog")


@pytest.mark.parametrize(
    ("said", "normal"),
    [
        ("The  Dog.", "dog"),
        ("two dogs", "2 dogs"),
        ("None", "0"),
        ("a man and an apple", "man and apple"),
        ("dont know", "don't know"),
        ("shouldnt've", "shouldn't've"),
        ("shouldn'tve", "shouldn't've"),
        ("yalldve", "y'all'd've"),
        ("whats that", "what's that"),
        ("3.5 m.", "3.5 m"),
        ("2:50pm", "2:50pm"),
        ("man's hat", "man's hat"),
        ("1,000", "1000"),
        ("red,blue", "red blue"),
        ("red, blue", "red blue"),
        ("red/blue", "red blue"),
        ("t-shirt", "t shirt"),
        ("blue - green", "blue green"),
        ("yes!", "yes"),
        ("on\nthe\ttable", "on table"),
        ("", ""),
    ],
)
def test_normal_form_of_vqa(said: str, normal: str) -> None:
    assert answers.vqa_normal_form(said) == normal


def test_normal_form_of_the_reference_implementation() -> None:
    assert answers.vqa_normal_form("red,blue?", reference=True) == "redblue"
    assert answers.vqa_normal_form("The man's hat", reference=True) == "man 's hat"
    assert answers.vqa_normal_form("two Dogs.", reference=True) == "2 dogs"
