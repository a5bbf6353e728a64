"""What an answer in words says: a letter of a list, yes or no, or a short answer in its normal form.

Knows how people and models write such answers. What is then compared and counted is `metrics`' work.
"""

import itertools
import re
from collections.abc import Iterator, Mapping

from ..data.words import plain

LETTERS = "ABCDE"  # the letters that the reference implementation looks for

# A letter that stands alone; "a" in "a dog" and "I" are words and are sorted out below.
_ALONE = re.compile(r"(?<!\w)(?<!\w['’])([A-Za-z])(?!\w|['’]\w)")
# Nothing but letters: "a, c", "(A) and (C)".
_LIST = re.compile(r"[^\w]*[A-Za-z](?:(?:[^\w]+|[^\w]+and[^\w]+)[A-Za-z])*[^\w]*")
# The letter that a line or a part of a list begins with, as a mark: "B. the dog", "(b) the dog", "B: dog".
_MARK = re.compile(r"(?:^|[\n,;]|\band\b)\s*[(\[]?([A-Za-z])(?:\.(?=\s+\w)|[):\]](?=\s|$))")
_POINTED_AT = re.compile(r"\b(?:answers?|options?|choices?|letters?)\s*(?:is|are|:)?\s*:?\s*[\"'(\[]*$", re.I)
_BRACKETS = {("(", ")"), ("[", "]"), ('"', '"'), ("'", "'"), ("“", "”"), ("*", "*")}
# What may follow "A" as a letter; any other word in small letters makes it the article.
_ARTICLE = re.compile(r"\s+(?!(?:and|or|is|are|because|since|as)\b)[a-z]")

_PUNCTUATION = ";/[]\"{}()=+\\_-><@`,?!"  # apostrophes, colons and decimal points stay
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32  # the public tools pass a flag as the number of replacements, which is 32
_ARTICLES = {"a", "an", "the"}
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS)}
_CONTRACTED = {
    "n't": "ai are ca could did does do had has have is might must need ought sha should was were wo would",
    "'ve": "could might must not should they we what where who would you",
    "n't've": "could had might should would",
    "'d": "he how it somebody someone something there they where who you",
    "'d've": "he it she somebody someone something there they we who you",
    "'ll": "how it somebody someone something they what who why you",
    "'s": "he how somebody someone that there what when where who why",
    "'re": "there they what why you",
    "": "ma'am o'clock 'ow's'at 'twas y'all y'all'll y'all'd've",
}


def chosen_letters(text: str, options: Mapping[str, str]) -> frozenset[str]:
    """The letters of a list that an answer chooses; empty if it names none.

    Takes "B", "b.", "(B)", "B. the dog", "The answer is B", "A, C", "A and C", "AC" and an option's own
    words; "a" before a word is the article and "I" the speaker.

    Args:
        options: letter -> the words behind it ("" if they are not known).
    """
    text = text.strip()
    for letter, words in options.items():
        if words and plain(text) in (plain(words), plain(f"{letter} {words}")):
            return frozenset(letter)
    if _LIST.fullmatch(text):
        return frozenset(letter.upper() for letter in _ALONE.findall(text)) & set(options)
    if re.fullmatch(r"[A-Z]{2,}", text) and sorted(set(text)) == list(text) and set(text) <= set(options):
        return frozenset(text)
    marked = {match[1].upper() for match in _MARK.finditer(text)} & set(options)
    return frozenset(marked or {letter for letter in _letters_alone(text) if letter in options})


def reference_letter(text: str) -> str:
    """The letter that the reference implementation reads, A to E, or the text in small letters if none.

    It takes the article "a" for an A.
    """
    start = re.match(r"([A-E])\.\s*.+$", text.strip(), re.IGNORECASE)
    if start:
        return start[1].upper()
    text = _without_punctuation(text.replace("\n", " ").replace("\t", " ").strip())
    for mark in "'\")(":
        text = text.strip(mark)
    text = text.strip().lower()
    letter = re.search(r"\b[a-e]\b", text)
    return letter[0].upper() if letter else text


def pope_says_yes(text: str) -> bool:
    """POPE's published rule: "no" only if the first sentence has the word No, no or not; else "yes"."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return not {"No", "no", "not"} & set(words)


def mme_answer(text: str, translate: bool = False) -> str:
    """MME's published rule: "yes" or "no" where the first four characters have it, else "other".

    Args:
        translate: first take true and false, and the Chinese for yes and no, for what they mean, as the
            reference implementation does.
    """
    if translate:
        for chinese, english in (("不是", "No"), ("是", "Yes"), ("否", "No")):
            text = text.replace(chinese, english)
        text = text.replace("\n", "").lower().replace("true", "yes").replace("false", "no")
        text = re.sub("[\u4e00-\u9fa5]", "", text)
    start = text.strip().lower()[:4]
    return next((word for word in ("yes", "no") if word in start), "other")


def says_yes_or_no(text: str) -> bool:
    """Whether an answer has the word yes, no or not at all."""
    return re.search(r"\b(yes|no|not)\b", text, re.IGNORECASE) is not None


def vqa_normal_form(text: str, reference: bool = False) -> str:
    """A short answer as VQA compares it, by the rules published with the data set.

    Small letters, number words as digits, no articles, apostrophes in contractions that lack them, no periods
    but decimal points. Other punctuation becomes a space, or nothing where it touches a space or the answer
    has a comma inside a number.

    Args:
        reference: commas, question marks and a possessive's 's are taken apart first, as the evaluator of the
            reference implementation does.
    """
    if reference:
        text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    text = _without_punctuation(text.replace("\n", " ").replace("\t", " ").strip())
    words = [_DIGITS.get(word, word) for word in text.lower().split()]
    return " ".join(_APOSTROPHES.get(word, word) for word in words if word not in _ARTICLES)


def _letters_alone(text: str) -> Iterator[str]:
    for match in _ALONE.finditer(text):
        letter, before, after = match[1], text[: match.start()], text[match.end() :]
        article = letter in "AaI" and _ARTICLE.match(after)
        pointed_at = _POINTED_AT.search(before) is not None
        enclosed = (before[-1:], after[:1]) in _BRACKETS
        if enclosed or (not article and (letter.isupper() or pointed_at)):
            yield letter.upper()


def _without_punctuation(text: str) -> str:
    cleaned = text
    for mark in _PUNCTUATION:
        loose = f"{mark} " in text or f" {mark}" in text or _COMMA_IN_NUMBER.search(text)
        cleaned = cleaned.replace(mark, "" if loose else " ")
    return _PERIOD.sub("", cleaned, count=_MOST_PERIODS)


def _lacking_apostrophes() -> Iterator[tuple[str, str]]:
    """A contraction that lacks one apostrophe or more -> the contraction."""
    for ending, stems in _CONTRACTED.items():
        for whole in (stem + ending for stem in stems.split()):
            places = [index for index, letter in enumerate(whole) if letter == "'"]
            for count in range(1, len(places) + 1):
                for gone in itertools.combinations(places, count):
                    yield "".join(letter for index, letter in enumerate(whole) if index not in gone), whole


_APOSTROPHES = dict(_lacking_apostrophes())
