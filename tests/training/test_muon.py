"""Muon: its updates are orthogonal, of a known size, and lead downhill."""

import pytest
import torch

from himtok_core.training import muon
from himtok_core.training.muon import Muon, orthogonalised


@pytest.fixture(autouse=True)
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every processor; one test below looks at bfloat16."""
    monkeypatch.setattr(muon, "native_bfloat16", lambda device: False)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(24, 24), (16, 48), (48, 16), (1, 9)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    out = orthogonalised(random(*shape))
    values = torch.linalg.svdvals(out)
    assert out.shape == shape and values.min() > 0.6 and values.max() < 1.25


def test_directions_stay(shape: tuple[int, int] = (20, 30)) -> None:
    """What comes out has the singular vectors that went in: U^T out V is diagonal."""
    matrix = random(*shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonalised(matrix) @ v.T
    assert (inner - torch.diag(inner.diag())).abs().max() < 1e-3
    assert inner.diag().min() > 0.6


def test_iterating_in_bfloat16_leads_to_about_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = orthogonalised(random(64, 48))
    monkeypatch.setattr(muon, "native_bfloat16", lambda device: True)
    rounded = orthogonalised(random(64, 48))
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    assert torch.nn.functional.cosine_similarity(rounded.flatten(), exact.flatten(), dim=0) > 0.99


def test_the_size_of_a_gradient_does_not_matter() -> None:
    matrix = random(10, 20)
    torch.testing.assert_close(orthogonalised(matrix), orthogonalised(1000 * matrix), rtol=1e-4, atol=1e-4)


def test_one_step_has_a_known_size() -> None:
    weight = torch.nn.Parameter(torch.zeros(64, 16))
    weight.grad = random(64, 16)
    Muon([weight], lr=0.1, weight_decay=0).step()
    expected = -0.1 * 0.2 * 64**0.5 * orthogonalised(weight.grad)
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-3, atol=1e-4)


def test_weights_decay_apart_from_the_update() -> None:
    weight = torch.nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.zeros(4, 4)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 0.95))


def test_what_has_no_gradient_stays() -> None:
    weight, other = (torch.nn.Parameter(random(4, 4, seed=seed)) for seed in (1, 2))
    before, other.grad = weight.detach().clone(), random(4, 4)
    Muon([weight, other], lr=0.1).step()
    assert torch.equal(weight.detach(), before)


def test_it_finds_a_minimum() -> None:
    target = random(12, 8)
    weight = torch.nn.Parameter(torch.zeros(12, 8))
    optimizer = Muon([weight], momentum=0.5, weight_decay=0)
    for step in range(120):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 120)
        (weight - target).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (weight - target).norm() < 0.1 * target.norm()
