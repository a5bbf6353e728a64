"""Heads on the visual tokens: what they reward is what patches should know."""

import math

import pytest
import torch

from himtok_core.training.dense import DenseHeads
from himtok_core.training.scene_batches import SHAPE_SIDE, DenseTargets

WIDTH, NAMES, PATCHES = 32, 5, 9

NAME_IDS = [[0], [1], [2, 3], [4], [5]]


@pytest.fixture
def heads() -> DenseHeads:
    torch.manual_seed(0)
    return DenseHeads(WIDTH, name_ids=NAME_IDS, codes=4 * 3)


@pytest.fixture
def embedding() -> torch.Tensor:
    """Six words that have nothing in common."""
    return 4 * torch.eye(WIDTH)[:6]


@pytest.fixture
def targets() -> DenseTargets:
    """Two pictures of nine patches with an object each, the second one unclear at its edge."""
    owner = torch.full((2, PATCHES), -1)
    owner[0, 4:6], owner[1, 0], owner[1, 1] = 0, 1, -2
    shapes = torch.zeros(2, SHAPE_SIDE, SHAPE_SIDE)
    shapes[:, :8] = 1
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 0.4, 0.3]])
    return DenseTargets(owner, torch.tensor([2, 0]), boxes, shapes, torch.zeros(2, 32, 32))


def knowing(heads: DenseHeads, targets: DenseTargets, embedding: torch.Tensor) -> torch.Tensor:
    """Visual tokens that look like the names of what they show: (2, PATCHES, WIDTH)."""
    names = torch.stack([embedding[ids].mean(0) for ids in NAME_IDS])
    table = torch.cat([names[targets.names], heads.background.detach()[None]])
    return 10 * table[targets.owner.clamp_min(-1)]


def test_patches_that_look_like_their_words_are_right(
    heads: DenseHeads, targets: DenseTargets, embedding: torch.Tensor
) -> None:
    visual = knowing(heads, targets, embedding)
    _, right = heads(visual, targets, embedding, None)
    _, wrong = heads(visual.roll(1, 1), targets, embedding, None)
    assert right["names"] == 1 and wrong["names"] < 1
    assert set(right) == {"names", "box_l1", "shape"}


def test_what_is_unclear_does_not_count(
    heads: DenseHeads, targets: DenseTargets, embedding: torch.Tensor
) -> None:
    visual = torch.randn(2, PATCHES, WIDTH)
    before, _ = heads(visual, targets, embedding, None)
    visual[1, 1] += 100
    after, _ = heads(visual, targets, embedding, None)
    assert before.item() == pytest.approx(after.item(), rel=1e-6)
    visual[1, 2] += 100
    assert heads(visual, targets, embedding, None)[0].item() != pytest.approx(before.item(), rel=1e-3)


def test_boxes_shapes_and_codes_are_measured_inside_objects(
    heads: DenseHeads, targets: DenseTargets, embedding: torch.Tensor
) -> None:
    for head in (heads.box, heads.shape, heads.codes):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    codes = torch.nn.functional.normalize(torch.randn(2, 4, 3), dim=-1)
    visual = torch.randn(2, PATCHES, WIDTH)
    _, shown = heads(visual, targets, embedding, codes)
    distance = (targets.boxes - 0.5).abs().mean(1)  # a head of zeros says 0.5
    assert shown["box_l1"].item() == pytest.approx(((2 * distance[0] + distance[1]) / 3).item(), rel=1e-5)
    assert shown["shape"].item() == pytest.approx(math.log(2), rel=1e-5)
    assert shown["codes"].item() == pytest.approx(1)
    assert not any(part.requires_grad for part in shown.values())
    heads.codes.bias.data = codes[0].flatten()
    heads.box.bias.data = torch.logit(targets.boxes[0])
    _, better = heads(visual, targets, embedding, codes)
    assert better["box_l1"].item() == pytest.approx(
        (0 + (targets.boxes[0] - targets.boxes[1]).abs().mean() / 3).item()
    )
    assert better["codes"] < 0.7


def test_looking_at_the_right_patches_costs_nothing(heads: DenseHeads) -> None:
    torch.nn.init.eye_(heads.look.weight)
    torch.nn.init.zeros_(heads.look.bias)
    visual = torch.zeros(2, PATCHES, WIDTH)  # of two pictures; the states that look are about the second
    visual[1, 3:5, 0], visual[1, 7, 1], visual[1, 8, 2] = 100.0, 100.0, 100.0
    visual[0, 5, :3] = 100.0
    owner = torch.full((2, PATCHES), -1)
    owner[1, 3:5], owner[1, 7], owner[1, 8] = 0, 1, -2
    owner[0, :7] = -2
    wanted = owner[1:] == 0
    row, column = torch.tensor([1]), torch.tensor([2])
    for channel, loss, share in ((0, 0.0, 1.0), (2, math.log(8 / 2), None), (1, None, 0.0)):
        states = torch.eye(WIDTH)[torch.tensor([[1, 0, 1, 2], [1, 1, channel, 2]])]  # (2, 4, WIDTH)
        measured, right = heads.looking(states, visual, row, column, owner, wanted)
        if loss is None:
            assert measured > 10, "the wrong object"
        else:
            # Looking at an unclear patch is as good as looking nowhere: it is left out, and eight remain.
            assert measured.item() == pytest.approx(loss, abs=1e-3)
        assert share is None or right.item() == share


def test_every_state_looks_at_the_picture_of_its_row(heads: DenseHeads) -> None:
    """Several states of several rows, in any order, are as each of them alone, and no other state learns."""
    torch.manual_seed(1)
    states, visual = torch.randn(3, 5, WIDTH, requires_grad=True), torch.randn(3, PATCHES, WIDTH)
    owner = torch.randint(-2, 3, (3, PATCHES))
    rows, columns = torch.tensor([2, 0, 2, 2, 1]), torch.tensor([4, 1, 0, 4, 3])
    wanted = torch.rand(5, PATCHES) > 0.6
    assert wanted.any(1).all() and (owner == -2).any()
    measured, right = heads.looking(states, visual, rows, columns, owner, wanted)
    losses, hits = [], []
    for row, column, patches in zip(rows.tolist(), columns.tolist(), wanted, strict=True):
        scores = visual[row] @ heads.look(states[row, column]) / WIDTH**0.5
        counted = (owner[row] != -2) | patches
        shares = scores[counted].softmax(0)
        losses.append(-shares[patches[counted]].sum().log().item())
        hits.append(patches[counted][shares.argmax()].item())
    assert measured.item() == pytest.approx(sum(losses) / 5, rel=1e-5)
    assert right.item() == pytest.approx(sum(hits) / 5) and 0 < sum(hits) < 5
    measured.backward()
    reached = torch.zeros(3, 5, dtype=torch.bool)
    reached[rows, columns] = True
    assert torch.equal(states.grad.abs().sum(-1) > 0, reached)
