"""Mask Perception: which of these expressions means the object under a mask? (the supplement, section E)

Knows how items are made from objects and the expressions that mean them: which expressions may stand beside a
right one without fitting too, and which letters are right. Files are `mask_perception`'s work.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .. import geometry
from .described_objects import DescribedObject, merge_objects
from .words import plain

LETTERS = "ABCD"
MOST_POSITIVES = 3  # one option at least must be wrong
SAME_THING = 0.5  # objects of a picture whose masks overlap by more than this IoU are one
SAME_PICTURE = 0.5  # chance of an option to come from the same picture, as long as that has any
TRIES = 60  # expressions of other pictures looked at for one option
# Words that fit things of any kind. An expression of nothing else may be true in any picture.
_GENERAL = frozenset(
    """left right top bottom middle center centre front back upper lower far near nearest closest
    closer first second third last side corner edge most leftmost rightmost topmost bottommost one
    ones two three four half part thing things object item it its this that he she him her his they
    them their who person guy man woman lady girl boy kid people i you me my of on in at to from by
    with and or not is are was be being has have having no only all other another next behind under
    above below beside between standing sitting looking facing holding wearing big bigger biggest
    large larger largest small smaller smallest little tall taller short long tiny whole full
    partial red orange yellow green blue purple pink black white gray grey brown dark light bright
    color colour colored blurry visible picture image photo screen background foreground up down out
    off over here there just really kind like which what""".split()
)


@dataclass(frozen=True, eq=False)
class MaskChoice:
    """A multiple-choice item.

    Attributes:
        target: the object under the mask.
        options: four expressions.
        right: the letters of those that mean the target, in order: "B", "AC".
        near: how many of the wrong ones come from the same picture.
    """

    target: DescribedObject
    options: tuple[str, ...]
    right: str
    near: int


def build_choices(
    objects: Iterable[DescribedObject], count: int | None, multiple: bool, rng: np.random.Generator
) -> Iterator[MaskChoice]:
    """Items in random order, at most one for each object and expression; the same for the same generator.

    Every letter is right equally often. A wrong option is an expression for another object that certainly
    does not fit too, as far as words tell: see `_may_fit`.

    Args:
        objects: those with one `id` are taken together, so that none of their expressions is ever wrong.
        count: at most this many items; None for as many as there are.
        multiple: one to three right options (training) instead of exactly one (testing).
        rng: decides everything.
    """
    merged = merge_objects(objects)
    entries = [_Entry(item, text) for item in merged for text in item.expressions]
    by_picture: dict[str, list[DescribedObject]] = defaultdict(list)
    for item in merged:
        by_picture[item.picture].append(item)
    twins: dict[str, set[frozenset[str]]] = {}
    decks = {size: _Deck(size, rng) for size in range(1, MOST_POSITIVES + 1)}
    made = 0
    for number in rng.permutation(len(entries)):
        if count is not None and made >= count:
            return
        entry = entries[number]
        around = by_picture[entry.item.picture]
        if entry.item.picture not in twins:
            twins[entry.item.picture] = _same_things(around)
        others = [item for item in around if {entry.item.id, item.id} not in twins[entry.item.picture]]
        right = _right_options(entry, multiple, rng)
        wrong = _wrong_options(entry.item, right, others, entries, rng)
        if wrong is None:
            continue
        letters = decks[len(right)].draw()
        made += 1
        yield MaskChoice(
            entry.item,
            _arranged(right, [other.text for other in wrong], letters, rng),
            letters,
            sum(other.item.picture == entry.item.picture for other in wrong),
        )


def statistics(items: Sequence[MaskChoice]) -> dict[str, object]:
    """What the supplement's table 10 says of the data set, and how balanced the items are.

    Returns:
        "items"; "pictures" and "objects" in them; "positives": number of right options -> items; "letters":
        letter -> items where it is right; "negatives": wrong options of the "same picture" and of "other
        pictures".
    """
    near = sum(item.near for item in items)
    wrong = sum(len(item.options) - len(item.right) for item in items)
    right = Counter(letter for item in items for letter in item.right)
    positives = Counter(len(item.right) for item in items)
    return {
        "items": len(items),
        "pictures": len({item.target.picture for item in items}),
        "objects": len({item.target.id for item in items}),
        "positives": {str(number): positives[number] for number in sorted(positives)},
        "letters": {letter: right[letter] for letter in LETTERS},
        "negatives": {"same picture": near, "other pictures": wrong - near},
    }


@dataclass(frozen=True, eq=False)
class _Entry:
    """One expression of an object."""

    item: DescribedObject
    text: str


class _Deck:
    """All choices of letters of one size; a new shuffled deck when one is used up."""

    def __init__(self, size: int, rng: np.random.Generator):
        self._all = ["".join(letters) for letters in itertools.combinations(LETTERS, size)]
        self._rng = rng
        self._left: list[str] = []

    def draw(self) -> str:
        if not self._left:
            self._left = [self._all[i] for i in self._rng.permutation(len(self._all))]
        return self._left.pop()


def _right_options(entry: _Entry, multiple: bool, rng: np.random.Generator) -> list[str]:
    others = [text for text in entry.item.expressions if text != entry.text]
    most = min(MOST_POSITIVES, 1 + len(others)) if multiple else 1
    more = int(rng.integers(0, most))
    return [entry.text, *(others[i] for i in rng.permutation(len(others))[:more])]


def _wrong_options(
    target: DescribedObject,
    right: Sequence[str],
    around: Sequence[DescribedObject],
    entries: Sequence[_Entry],
    rng: np.random.Generator,
) -> list[_Entry] | None:
    """Expressions for the other letters, some of them of the same picture; None if there are not enough."""
    own = [_words(text) for text in target.expressions]
    near = [
        _Entry(item, text)
        for item in around
        if item.id != target.id
        for text in item.expressions
        if not _may_fit(text, own)
    ]
    near = [near[i] for i in rng.permutation(len(near))]
    taken = {plain(text) for text in right}
    chosen: list[_Entry] = []
    while len(chosen) < len(LETTERS) - len(right):
        near = [other for other in near if plain(other.text) not in taken]
        if near and rng.random() < SAME_PICTURE:
            found = near[0]
        else:
            found = _from_elsewhere(target, own, taken, entries, rng) or (near[0] if near else None)
        if found is None:
            return None
        taken.add(plain(found.text))
        chosen.append(found)
    return chosen


def _from_elsewhere(
    target: DescribedObject,
    own: Sequence[frozenset[str]],
    taken: set[str],
    entries: Sequence[_Entry],
    rng: np.random.Generator,
) -> _Entry | None:
    """An expression of another picture for another kind of thing, with no telling word in common."""
    telling = frozenset().union(*own) - _GENERAL
    for number in rng.integers(len(entries), size=TRIES):
        other = entries[number]
        words = _words(other.text) - _GENERAL
        if (
            other.item.picture != target.picture
            and (target.kind is None or other.item.kind != target.kind)
            and words
            and not words & telling
            and not _may_fit(other.text, own)
            and plain(other.text) not in taken
        ):
            return other
    return None


def _may_fit(text: str, own: Sequence[frozenset[str]]) -> bool:
    """Whether an expression says no more than one of the target's own: "man" beside "man in red"."""
    words = _words(text)
    return any(words <= expression for expression in own)


def _same_things(around: Sequence[DescribedObject]) -> set[frozenset[str]]:
    """Pairs of ids of objects of a picture that are one thing, by their masks."""
    if len(around) < 2:
        return set()  # a mask that is compared with no other need not be read
    pairs = itertools.combinations([(item, item.mask()) for item in around], 2)
    return {
        frozenset({one.id, other.id})
        for (one, first), (other, second) in pairs
        if first.shape != second.shape or geometry.mask_iou(first, second) > SAME_THING
    }


def _arranged(
    right: Sequence[str], wrong: Sequence[str], letters: str, rng: np.random.Generator
) -> tuple[str, ...]:
    """The options in the order of their letters."""
    shuffled = iter([right[i] for i in rng.permutation(len(right))])
    others = iter([wrong[i] for i in rng.permutation(len(wrong))])
    return tuple(next(shuffled) if letter in letters else next(others) for letter in LETTERS)


def _words(text: str) -> frozenset[str]:
    return frozenset(plain(text).split())
