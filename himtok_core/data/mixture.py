"""Which sample comes when: data sets of any size mixed into one endless, repeatable order.

Knows sizes and amounts only. The n-th draw depends on (seed, n) and nothing else, so a run that is taken up
again at any step, on any number of processes, sees what it would have seen.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

# Samples in stage 2 and in stage 3 of the data sets that stage 3 draws fewer of (the paper, table 9).
TABLE_9 = {
    "SA1B": (1_000_000, 250_000),
    "COCO-Rem": (350_000, 35_000),
    "COCO-Stuff": (500_000, 50_000),
    "COCO-Panoptic": (233_000, 116_000),
    "PartImageNet": (20_000, 4_000),
    "Objects365": (450_000, 90_000),
}


def stage_amount(name: str, available: int, stage: str) -> int:
    """How many samples of a data set come in one epoch of a stage.

    The data sets of table 9, known by their names (whatever their capitals and dashes), come at most as often
    as it says; a smaller copy of one is drawn from in stage 3 at the table's proportion. All others come
    whole.

    Args:
        available: its samples, repetitions included. stage: "2", "3" or "finetune".

    Returns:
        At least 1.
    """
    known = {_plain(other): amounts for other, amounts in TABLE_9.items()}.get(_plain(name))
    if known is None or stage == "finetune":
        return max(1, available)
    second, third = known
    most = min(available, second)
    return max(1, most if stage == "2" else round(most * third / second))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


class Mixture:
    """An endless order over the samples of several data sets.

    An epoch holds `amounts[d]` draws of data set d: all its samples as often as they fit, and a random part
    of them, another one in each epoch, for the rest. All draws of an epoch are shuffled together.

    Args:
        sizes: samples of each data set. amounts: draws of each in an epoch. seed: of the order.
    """

    def __init__(self, sizes: Sequence[int], amounts: Sequence[int], seed: int):
        assert len(sizes) == len(amounts) and min(sizes) > 0 and min(amounts) > 0
        self._sizes, self._amounts, self._seed = tuple(sizes), tuple(amounts), seed
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    def __len__(self) -> int:
        """Draws of an epoch."""
        return sum(self._amounts)

    def __getitem__(self, number: int) -> tuple[int, int]:
        """The draw of that number, from 0 on without end: (data set, its sample)."""
        epoch, place = divmod(number, len(self))
        sets, items = self._epoch(epoch)
        return int(sets[place]), int(items[place])

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng((self._seed, epoch))
        drawn = []
        for size, amount in zip(self._sizes, self._amounts):
            whole, rest = divmod(amount, size)
            drawn.append(np.concatenate([np.tile(np.arange(size), whole), random.permutation(size)[:rest]]))
        order = random.permutation(len(self))
        return np.repeat(np.arange(len(drawn)), self._amounts)[order], np.concatenate(drawn)[order]
