"""Losses of a batch: those of the reference number by number, those of the supplement from their parts."""


import numpy as np
import pytest
import torch
import torch.nn.functional as F

from himtok_core.data.jsonl import TrainingSample
from himtok_core.training.conversations import ConversationWriter, Example, collate
from himtok_core.training.lmm import STAGES, choose_parameters
from himtok_core.training.losses import dice_loss, grained_labels
from himtok_core.training.reference_losses import sample_indices
from himtok_core.training.stage_model import StageModel, hierarchical_mask_loss, with_mask_tokens
from tests.training.toy_conversations import PLACEHOLDER, write_mask

from .conftest import FACTS, PARITY, Loaded


def example(loaded: Loaded, *texts: str, pictures: int = 1, masks: tuple = (), **options: bool) -> Example:
    """One sample about the reference's own picture."""
    writer = ConversationWriter(loaded[1], loaded[0].config, 1, 2048, **options)
    picture = (PARITY / FACTS["sample"]["image"],) * pictures
    return writer.example(TrainingSample(tuple(zip(texts[::2], texts[1::2])), None, picture, tuple(masks)))


@pytest.fixture(scope="module")
def drawing(released: Loaded, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """A batch of a mask, a text and another mask, with their levels."""
    folder = tmp_path_factory.mktemp("masks")
    for number in range(2):
        write_mask(folder / f"m{number}.png", 10 + 15 * number, (20, 30))
    examples = [
        example(released, "<image>\nSegment.", f"Here: {PLACEHOLDER}", masks=[folder / "m0.png"]),
        example(released, "Well?", "No.", pictures=0),
        example(released, "<image>\nSegment it.", f"{PLACEHOLDER}.", masks=[folder / "m1.png"]),
    ]
    return collate(examples, released[1], torch.tensor([[3, 20], [1, 31]]))


# ---- the reference ---------------------------------------------------------------------------------------


def test_mask_tokens_take_their_places_as_in_the_reference(
    released: Loaded, golden: dict[str, torch.Tensor]
) -> None:
    batch = {
        "input_ids": golden["train/replace/input_ids"],
        "labels": golden["train/replace/labels"],
        "masks": golden["himt/masks"][2:4].float(),
        "filled": torch.tensor([[0, 7, 32, 0]]),
    }
    ids, labels = with_mask_tokens(released[0], batch)
    assert torch.equal(ids, golden["train/replace/new_input_ids"])
    assert torch.equal(labels, golden["train/replace/new_labels"])


@pytest.mark.parametrize(
    "seed, levels, name",
    [
        (0, 0, "total_cos2fine0_numpy_seed0"),
        (0, 3, "total_cos2fine3_numpy_seed0"),
        (7, 3, "total_cos2fine3_numpy_seed7"),
    ],
)
def test_losses_of_the_reference(
    released: Loaded, golden: dict[str, torch.Tensor], seed: int, levels: int, name: str
) -> None:
    texts = [turn["value"] for turn in FACTS["sample"]["conversations"]]
    known = example(released, *texts, reference=True)
    indices = sample_indices(np.random.RandomState(seed), levels)
    batch = collate([known], released[1], torch.tensor(indices, dtype=torch.int64))
    batch["masks"] = golden["himt/masks"][2:3].float()
    with torch.no_grad():
        losses = StageModel(released[0], draws=True, reference=True)(batch)
    tolerance = FACTS["scalar_tolerance"]
    wanted = FACTS["forward"]
    assert losses["text"].item() == pytest.approx(wanted["ce_with_target_mask_ids"], abs=tolerance)
    assert (losses["text"] + losses["mask"]).item() == pytest.approx(wanted[name], abs=tolerance)


# ---- the supplement --------------------------------------------------------------------------------------


def test_text_loss_is_that_of_next_tokens(released: Loaded, drawing: dict[str, torch.Tensor]) -> None:
    """Against the model's own loss, on the batch's pictures; padding and questions count for nothing."""
    network = released[0]
    ids, labels = with_mask_tokens(network, drawing)
    with torch.no_grad():
        losses = StageModel(network, draws=False)(drawing)
        wanted = network(
            input_ids=ids,
            labels=labels,
            attention_mask=drawing["attention_mask"],
            pixel_values=drawing["pixel_values"],
        ).loss
    assert losses["text"].item() == pytest.approx(wanted.item(), rel=1e-5)
    assert losses["mask"] == 0


def test_mask_loss_is_about_what_soft_decoding_draws(
    released: Loaded, drawing: dict[str, torch.Tensor]
) -> None:
    """The complete masks and each one's prefixes against blurred labels, from the model's own logits."""
    network = released[0]
    tokenizer, first = network.mask_tokenizer, network.config.first_mask_id
    ids, _ = with_mask_tokens(network, drawing)
    with torch.no_grad():
        loss = StageModel(network, draws=True)(drawing)["mask"].item()
        logits = network(
            input_ids=ids, attention_mask=drawing["attention_mask"], pixel_values=drawing["pixel_values"]
        ).logits
        expected = 0.0
        for (row, place, mask), levels in zip(drawing["drawn"].tolist(), drawing["levels"].tolist()):
            own = logits[row, place - 1 : place + 31, first : first + 1024]
            lengths = [32, *levels]
            drawn = tokenizer.decode_prefixes((2 * own).softmax(-1)[None], lengths)[0]
            target = drawing["masks"][mask].expand(len(lengths), -1, -1)
            label = grained_labels(target, torch.tensor(lengths))
            for seen, wanted in zip(drawn, label):
                expected += F.binary_cross_entropy(seen, wanted).item()
                expected += 0.25 * dice_loss(seen[None], wanted[None]).item()
    assert loss == pytest.approx(expected / 2, rel=1e-4)


def test_fewer_tokens_are_compared_with_blurrier_masks(released: Loaded) -> None:
    """Of the same probabilities, levels change the loss; complete masks alone are its first part."""
    probabilities = torch.randn(1, 32, 1024, generator=torch.Generator().manual_seed(0)).softmax(-1)
    target = torch.zeros(1, 64, 64)
    target[:, 20:40, 10:50] = 1
    tokenizer = released[0].mask_tokenizer
    with torch.no_grad():
        alone = hierarchical_mask_loss(tokenizer, probabilities, target, torch.zeros(1, 0, dtype=torch.int64))
        with_two = hierarchical_mask_loss(tokenizer, probabilities, target, torch.tensor([[2, 9]]))
        drawn = tokenizer.decode_soft(probabilities)
    expected = F.binary_cross_entropy(drawn, target) + 0.25 * dice_loss(drawn, target)
    assert alone.item() == pytest.approx(expected.item(), rel=1e-4)
    assert with_two > alone


def test_what_learns(released: Loaded, drawing: dict[str, torch.Tensor]) -> None:
    """With a mask loss the de-tokenizer learns; the codes never do, so that tokens keep their meaning."""
    network = released[0]
    for stage, learns in (("2", True), ("3", False)):
        choose_parameters(network, STAGES[stage])
        module = StageModel(network, draws=STAGES[stage].mask_loss_weight > 0)
        losses = module(drawing)
        (losses["text"] + losses["mask"]).backward()
        moved = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
        masks = {name.split(".")[1] for name in moved if name.startswith("mask_tokenizer.")}
        assert masks == ({"decoder", "pixel_decoder"} if learns else set())
        for part in ("vision_tower.", "multi_modal_projector.", "language_model.", "lm_head."):
            assert any(name.removeprefix("model.").startswith(part) for name in moved)
        network.zero_grad()
        network.requires_grad_(False)


def test_text_alone_passes_through_every_part(released: Loaded) -> None:
    """Every parameter that learns is in the graph, or processes that share it would wait for each other."""
    network = released[0]
    choose_parameters(network, STAGES["2"])
    batch = collate(
        [example(released, "Well?", "No.", pictures=0)], released[1], torch.zeros(0, 3, dtype=torch.int64)
    )
    losses = StageModel(network, draws=True)(batch)
    assert losses["mask"] == 0
    (losses["text"] + losses["mask"]).backward()
    learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert [name for name, p in learning.items() if p.grad is None] == []
    seeing = [p.grad for name, p in learning.items() if "vision_tower" in name]
    assert not any(grad.any() for grad in seeing)
    network.zero_grad()
    network.requires_grad_(False)
