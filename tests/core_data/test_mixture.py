"""The order of samples: amounts by table 9, and the same draws whenever they are asked for."""

from collections import Counter

import pytest

from himtok_core.data.mixture import TABLE_9, Mixture, stage_amount


@pytest.mark.parametrize(
    "name, available, stage, amount",
    [
        ("SA1B", 11_000_000, "2", 1_000_000),
        ("SA1B", 11_000_000, "3", 250_000),
        ("sa-1b", 1_000_000, "3", 250_000),
        ("coco_rem", 350_000, "3", 35_000),
        ("COCO-Panoptic", 233_000, "3", 116_000),
        ("Objects365", 100, "2", 100),
        ("Objects365", 100, "3", 20),
        ("PartImageNet", 2, "3", 1),
        ("SA1B", 5_000_000, "finetune", 5_000_000),
        ("RefCOCO", 320_000, "3", 320_000),
    ],
)
def test_amounts(name: str, available: int, stage: str, amount: int) -> None:
    assert stage_amount(name, available, stage) == amount


def test_stage_3_draws_what_table_9_says() -> None:
    drawn = {name: stage_amount(name, second, "3") for name, (second, _) in TABLE_9.items()}
    assert drawn == {name: third for name, (_, third) in TABLE_9.items()}


def test_an_epoch_holds_the_amounts_shuffled() -> None:
    mixture = Mixture(sizes=[10, 4, 7], amounts=[3, 9, 7], seed=5)
    epoch = [mixture[number] for number in range(len(mixture))]
    assert Counter(chosen for chosen, _ in epoch) == {0: 3, 1: 9, 2: 7}
    assert len({item for chosen, item in epoch if chosen == 0}) == 3
    times = Counter(item for chosen, item in epoch if chosen == 1)
    assert sorted(times.values()) == [2, 2, 2, 3]
    assert {item for chosen, item in epoch if chosen == 2} == set(range(7))
    assert epoch != sorted(epoch)


def test_draws_depend_on_seed_and_number_only() -> None:
    sizes, amounts = [10, 4], [5, 4]
    forward = [Mixture(sizes, amounts, 1)[number] for number in range(40)]
    mixture = Mixture(sizes, amounts, 1)
    backward = [mixture[number] for number in reversed(range(40))]
    assert forward == backward[::-1]
    assert forward != [Mixture(sizes, amounts, 2)[number] for number in range(40)]
    epochs = [forward[start : start + 9] for start in (0, 9, 18, 27)]
    assert len({tuple(epoch) for epoch in epochs}) == 4
    parts = {frozenset(item for chosen, item in epoch if chosen == 0) for epoch in epochs}
    assert len(parts) > 1  # another part of the first data set in each
