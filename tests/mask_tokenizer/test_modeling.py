"""What a mask tokenizer accepts, refuses and promises, whatever its weights."""

import json
import math
from pathlib import Path

import pytest
import torch

from himtok_core.errors import MaskError
from himtok_core.geometry import stretch_mask
from himtok_core.mask_tokenizer import MaskTokenizer, MaskTokenizerConfig

from .conftest import PARITY


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(1024, (3, 32), generator=torch.Generator().manual_seed(0))


def half_plane(height: int, width: int) -> torch.Tensor:
    """A mask [height, width] of everything below a diagonal."""
    rows, columns = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)[None]
    return rows + columns > 1


# ---- sizes -----------------------------------------------------------------------------------------------


def test_the_released_preset_has_the_released_shapes() -> None:
    shapes = json.loads((PARITY / "manifest_8b.json").read_text(encoding="utf-8"))["shapes"]
    released = {
        n.removeprefix("mask_decoder."): s for n, s in shapes.items() if n.startswith("mask_decoder.")
    }
    with torch.device("meta"):
        model = MaskTokenizer(MaskTokenizerConfig.released())
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == released
    assert sum(parameter.numel() for parameter in model.parameters()) == 644_294_815


def test_the_mini_preset_is_small() -> None:
    with torch.device("meta"):
        model = MaskTokenizer(MaskTokenizerConfig.mini())
    assert 1_000_000 < sum(parameter.numel() for parameter in model.parameters()) < 2_000_000
    assert (model.config.num_latent_tokens, model.config.codebook_size, model.config.token_size) == (
        32,
        1024,
        12,
    )
    assert model.config.mask_size == 64


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"mask_size": 250}, "not a multiple of patch_size"),
        ({"pixel_channel_mult": (1, 2)}, "gives 32 pixels, not mask_size 256"),
        ({"encoder_width": 1000}, "not a multiple of the 32 latent tokens"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskTokenizerConfig(**sizes)


# ---- masks -> tokens -------------------------------------------------------------------------------------


def test_one_mask_and_a_batch_of_masks(tokenizer: MaskTokenizer) -> None:
    masks = torch.stack([half_plane(64, 64), ~half_plane(64, 64)])
    together = tokenizer.encode(masks)
    assert together.shape == (2, 32) and together.dtype == torch.int64
    assert together.min() >= 0 and together.max() < 1024
    assert torch.equal(tokenizer.encode(masks[0]), together[:1])
    assert torch.equal(tokenizer.encode(masks.float()), together)
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize(("height", "width"), [(64, 64), (150, 40), (40, 300), (256, 256), (333, 97)])
def test_any_resolution_is_stretched_over_the_whole_square(
    tokenizer: MaskTokenizer, height: int, width: int
) -> None:
    """The diagonal of a picture of any shape becomes the diagonal of the square; nothing is padded or cut."""
    seen = []
    hook = tokenizer.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    tokens = tokenizer.encode(half_plane(height, width))
    hook.remove()
    assert tokens.shape == (1, 32) and seen[0].shape == (1, 64, 64)
    assert seen[0].min() >= 0 and seen[0].max() <= 1
    assert (seen[0][0] - half_plane(64, 64).float()).abs().mean() < 0.02


@pytest.mark.parametrize("shape", [(64,), (1, 1, 64, 64), (0, 64, 64), (2, 0, 64)])
def test_masks_of_a_wrong_shape_are_refused(tokenizer: MaskTokenizer, shape: tuple[int, ...]) -> None:
    with pytest.raises(MaskError, match=r"\(B, H, W\)"):
        tokenizer.encode(torch.zeros(shape))


@pytest.mark.parametrize("value", [-0.1, 1.5, 255.0, math.nan])
def test_mask_values_outside_the_range_are_refused(tokenizer: MaskTokenizer, value: float) -> None:
    mask = torch.zeros(64, 64)
    mask[3, 5] = value
    with pytest.raises(MaskError, match=r"\[0, 1\]"):
        tokenizer.encode(mask)


# ---- tokens -> masks -------------------------------------------------------------------------------------


def test_decoded_masks_are_probabilities(tokenizer: MaskTokenizer, tokens: torch.Tensor) -> None:
    drawn = tokenizer.decode(tokens)
    assert drawn.shape == (3, 64, 64) and drawn.dtype == torch.float32
    assert drawn.min() >= 0 and drawn.max() <= 1


def test_prefixes_together_equal_prefixes_alone(tokenizer: MaskTokenizer, tokens: torch.Tensor) -> None:
    lengths = [32, 1, 7, 7]
    together = tokenizer.decode_prefixes(tokens, lengths)
    alone = torch.stack([tokenizer.decode(tokens[:, :length]) for length in lengths], dim=1)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)
    sharp = torch.nn.functional.one_hot(tokens, 1024).float()
    together = tokenizer.decode_prefixes(sharp, lengths)
    alone = torch.stack([tokenizer.decode_soft(sharp[:, :length]) for length in lengths], dim=1)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


def test_what_follows_a_prefix_does_not_show_in_it(tokenizer: MaskTokenizer, tokens: torch.Tensor) -> None:
    other = tokens.clone()
    other[:, 9:] = (other[:, 9:] + 1) % 1024
    short, long = (tokenizer.decode_prefixes(ids, [9, 10]).unbind(1) for ids in (tokens, other))
    torch.testing.assert_close(short[0], long[0], rtol=0, atol=1e-6)
    assert (short[1] - long[1]).abs().max() > 1e-3


def test_decoding_leaves_no_gradients_but_draw_does(tokenizer: MaskTokenizer, tokens: torch.Tensor) -> None:
    assert not tokenizer.decode(tokens).requires_grad
    codes = tokenizer.quantize.lookup(tokens).detach().requires_grad_()
    tokenizer.draw(codes).sum().backward()
    assert codes.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.zeros(32, dtype=torch.int64), r"\(B, n\)"),
        (torch.zeros(1, 32), "integers"),
        (torch.zeros(1, 0, dtype=torch.int64), "1 to 32 tokens, got 0"),
        (torch.zeros(1, 33, dtype=torch.int64), "1 to 32 tokens, got 33"),
        (torch.tensor([[0, 1024]]), r"\[0, 1024\)"),
        (torch.tensor([[0, -1]]), r"\[0, 1024\)"),
    ],
)
def test_wrong_tokens_are_refused(tokenizer: MaskTokenizer, tokens: torch.Tensor, message: str) -> None:
    with pytest.raises(MaskError, match=message):
        tokenizer.decode(tokens)


@pytest.mark.parametrize("shape", [(32, 1024), (1, 32, 1023), (1, 0, 1024), (1, 33, 1024)])
def test_wrong_distributions_are_refused(tokenizer: MaskTokenizer, shape: tuple[int, ...]) -> None:
    with pytest.raises(MaskError, match=r"1024\)|1 to 32 tokens"):
        tokenizer.decode_soft(torch.zeros(shape))


@pytest.mark.parametrize("lengths", [[], [0], [33], [4, -1]])
def test_wrong_lengths_are_refused(
    tokenizer: MaskTokenizer, tokens: torch.Tensor, lengths: list[int]
) -> None:
    with pytest.raises(MaskError, match=r"1\.\.32"):
        tokenizer.decode_prefixes(tokens, lengths)


def test_a_prefix_longer_than_its_tokens_is_refused(tokenizer: MaskTokenizer, tokens: torch.Tensor) -> None:
    with pytest.raises(MaskError, match=r"1\.\.5, got \[6\]"):
        tokenizer.decode_prefixes(tokens[:, :5], [5, 6])


# ---- files -----------------------------------------------------------------------------------------------


def test_saved_and_loaded_it_is_the_same(
    tokenizer: MaskTokenizer, tokens: torch.Tensor, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = MaskTokenizer.from_pretrained(tmp_path)
    assert again.config.to_diff_dict() == tokenizer.config.to_diff_dict() and not again.training
    assert torch.equal(again.decode(tokens), tokenizer.decode(tokens))
    mask = half_plane(90, 50)
    assert torch.equal(again.encode(mask), tokenizer.encode(mask))


def test_half_precision_gives_nearly_the_same_mask(
    tokenizer: MaskTokenizer, tokens: torch.Tensor, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    half = MaskTokenizer.from_pretrained(tmp_path, dtype=torch.bfloat16)
    drawn = half.decode(tokens)
    assert drawn.dtype == torch.bfloat16
    assert ((drawn.float() > 0.5) == (tokenizer.decode(tokens) > 0.5)).float().mean() > 0.9
    assert half.encode(torch.from_numpy(stretch_mask(half_plane(90, 50).numpy(), 64))).shape == (1, 32)
