import pytest
import torch

from himtok_core.errors import GenerationError
from himtok_core.generation.sampling import Sampler, Sampling

LOGITS = torch.tensor([0.0, 2.0, 1.0, -torch.inf, -1.0])


def draws(sampling: Sampling | None, count: int = 200) -> list[int]:
    sampler = Sampler(sampling)
    return [sampler.pick(LOGITS) for _ in range(count)]


@pytest.mark.parametrize("sampling", [None, Sampling(temperature=0), Sampling(top_k=1), Sampling(top_p=0.01)])
def test_greedy_and_its_limits_take_the_most_likely(sampling):
    assert set(draws(sampling, 50)) == {1}


def test_a_seed_repeats_the_draw():
    first, again, other = (draws(Sampling(seed=seed)) for seed in (3, 3, 4))
    assert first == again != other


def test_draws_follow_the_distribution():
    picked = torch.tensor(draws(Sampling(seed=0), 4000))
    shares = torch.bincount(picked, minlength=5) / 4000
    assert shares[3] == 0
    assert torch.allclose(shares, LOGITS.softmax(0), atol=0.03)


def test_a_low_temperature_sharpens():
    assert draws(Sampling(temperature=0.2, seed=0)).count(1) > draws(Sampling(seed=0)).count(1)


def test_top_k_and_top_p_leave_out_the_tail():
    assert set(draws(Sampling(top_k=2, seed=0))) == {1, 2}
    # probabilities .64, .24, .09, .03: two tokens reach 0.7, and the third is not needed
    assert set(draws(Sampling(top_p=0.7, seed=0))) == {1, 2}


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.5},
        {"top_k": 0},
        {"seed": -1},
        {"seed": 0.5},
    ],
)
def test_values_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(GenerationError, match=next(iter(wrong)).split("_")[0]):
        Sampling(**wrong)
