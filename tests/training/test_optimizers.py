"""What every recipe's step does: clipping, schedule, two kinds of optimizers, no chance in the numbers."""

from copy import deepcopy

import pytest
import torch

from himtok_core.training.muon import Muon
from himtok_core.training.optimizers import (
    Optimizers,
    learning_rate,
    native_bfloat16,
    quick_products,
    reproducible,
    split_for_muon,
)


def test_the_learning_rate_rises_stays_and_falls() -> None:
    rates = [learning_rate(step, step / 1000, warmup=100) for step in range(1000)]
    assert rates[0] == 0.01 and rates[49] == 0.5
    assert set(rates[99:601]) == {1.0}
    assert all(a > b for a, b in zip(rates[601:990], rates[602:991], strict=True))
    assert rates[800] == pytest.approx(0.5) and rates[-1] == 0.02


def test_matrices_in_blocks_are_told_from_the_rest() -> None:
    module = torch.nn.ModuleDict(
        {"blocks": torch.nn.ModuleList([torch.nn.Linear(3, 4)]), "head": torch.nn.Linear(4, 2)}
    )
    module["head"].bias.requires_grad_(False)
    matrices, others = split_for_muon(module, ("blocks.",))
    assert [tuple(p.shape) for p in matrices] == [(4, 3)]
    assert sorted(tuple(p.shape) for p in others) == [(2, 4), (4,)]


def stepped(module: torch.nn.Module, scale: float = 1.0, factor: float = 1.0) -> Optimizers:
    """One step on fixed gradients."""
    matrices, others = [module.weight], [module.bias]
    optimizers = Optimizers(Muon(matrices, lr=0.1), torch.optim.AdamW(others, lr=0.01))
    module.weight.grad = scale * torch.ones_like(module.weight)
    module.bias.grad = scale * torch.ones_like(module.bias)
    optimizers.step(module.parameters(), factor)
    return optimizers


def linear() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2)


def test_a_step_clips_moves_everything_and_forgets_the_gradients() -> None:
    module, before = linear(), linear()
    seen = []
    hook = torch.nn.utils.clip_grad_norm_
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *args: seen.append(hook(*args)))
        stepped(module, scale=100.0)
    assert seen[0].item() == pytest.approx(100 * 8**0.5)  # the norm of all gradients together
    assert not torch.equal(module.weight, before.weight) and not torch.equal(module.bias, before.bias)
    assert module.weight.grad is None and module.bias.grad is None


def test_the_factor_scales_every_learning_rate() -> None:
    whole, half, before = linear(), linear(), linear()
    stepped(whole), stepped(half, factor=0.5)
    moved, half_moved = whole.bias - before.bias, half.bias - before.bias
    torch.testing.assert_close(half_moved, 0.5 * moved, rtol=1e-4, atol=1e-7)


def test_a_saved_state_goes_on_the_same() -> None:
    module, copy = linear(), linear()
    first = stepped(module)
    second = stepped(copy)
    second.load_state_dict(deepcopy(first.state_dict()))
    for one, optimizers in ((module, first), (copy, second)):
        one.weight.grad, one.bias.grad = torch.full((2, 3), 0.3), torch.tensor([0.1, -0.2])
        optimizers.step(one.parameters(), 0.7)
    assert torch.equal(module.weight, copy.weight) and torch.equal(module.bias, copy.bias)


def test_on_a_processor_indexed_sums_come_out_the_same_every_time() -> None:
    torch.manual_seed(0)
    rows, places = torch.randn(20_000, 8), torch.randint(0, 3, (20_000,))

    @reproducible()
    def summed() -> torch.Tensor:
        table = torch.zeros(3, 8, requires_grad=True)
        (table[places] * rows).sum().backward()
        return table.grad

    first = summed()
    assert all(torch.equal(first, summed()) for _ in range(10))
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("native", [True, False])
def test_products_are_in_bfloat16_only_where_the_processor_has_it(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": native})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    module = linear()
    with quick_products():
        out = module(torch.ones(1, 3))
    out.float().sum().backward()
    assert native_bfloat16(torch.device("cpu")) == native
    assert out.dtype == (torch.bfloat16 if native else torch.float32)
    assert module.weight.dtype == module.weight.grad.dtype == torch.float32
    assert module(torch.ones(1, 3)).dtype == torch.float32, "outside nothing is changed"
