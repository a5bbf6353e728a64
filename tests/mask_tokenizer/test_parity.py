"""The tiny checkpoint's mask tokenizer against what the reference implementation computed with it.

The tolerances are those of the reference data: ten times its own rounding noise.
"""

import numpy as np
import pytest
import torch

from himtok_core.geometry import stretch_mask
from himtok_core.mask_tokenizer import MaskTokenizer
from himtok_core.mask_tokenizer.encoder import causal_latent_mask

LENGTHS = [1, 2, 4, 8, 16, 31, 32]
DRAWN = 3e-4  # probabilities

Golden = dict[str, torch.Tensor]


def assert_close(actual: torch.Tensor, expected: torch.Tensor, atol: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def rows(columns: torch.Tensor) -> torch.Tensor:
    """The reference's (B, D, 1, L) as our (B, L, D)."""
    return columns.squeeze(2).transpose(1, 2)


def test_encoder_before_quantisation(tokenizer: MaskTokenizer, golden: Golden) -> None:
    with torch.no_grad():
        z = tokenizer.encoder(golden["himt/masks"].float(), tokenizer.latent_tokens)
    assert_close(z, rows(golden["himt/encoder_z"]), 3e-5)


def test_tokens_of_masks(tokenizer: MaskTokenizer, golden: Golden) -> None:
    tokens = tokenizer.encode(golden["himt/masks"].bool())
    assert tokens.dtype == torch.int64 and tokens.tolist() == golden["himt/token_ids"].tolist()


def test_codebook(tokenizer: MaskTokenizer, golden: Golden) -> None:
    with torch.no_grad():
        assert_close(tokenizer.quantize.codebook(), golden["himt/codebook"], 3e-6)
        codes = tokenizer.quantize.lookup(golden["himt/token_ids"])
    assert_close(codes, rows(golden["himt/decode_hard/full/z_quantized"]), 2e-6)


def test_soft_codes_are_not_normalised(tokenizer: MaskTokenizer, golden: Golden) -> None:
    with torch.no_grad():
        codes = tokenizer.quantize.expectation(golden["soft/tt_probs"])
    assert_close(codes, rows(golden["soft/prefix_32/z"]), 6e-6)


def test_hard_decoding(tokenizer: MaskTokenizer, golden: Golden) -> None:
    assert_close(tokenizer.decode(golden["himt/token_ids"]), golden["himt/decode_hard/full/prob"], DRAWN)
    random = golden["himt/decode_hard/random/ids"]
    assert_close(tokenizer.decode(random), golden["himt/decode_hard/random/prob"], DRAWN)


@pytest.mark.parametrize("length", LENGTHS)
def test_prefixes_one_by_one(tokenizer: MaskTokenizer, golden: Golden, length: int) -> None:
    hard = tokenizer.decode(golden["himt/token_ids"][:2, :length])
    assert_close(hard, golden[f"himt/decode_hard/prefix_{length}/prob"], DRAWN)
    soft = tokenizer.decode_soft(golden["soft/tt_probs"][:, :length])
    assert_close(soft, golden[f"soft/prefix_{length}/prob"], DRAWN)


def test_prefixes_in_one_pass(tokenizer: MaskTokenizer, golden: Golden) -> None:
    hard = tokenizer.decode_prefixes(golden["himt/token_ids"][:2], LENGTHS)
    soft = tokenizer.decode_prefixes(golden["soft/tt_probs"], LENGTHS)
    assert hard.shape == soft.shape == (2, len(LENGTHS), 64, 64)
    for place, length in enumerate(LENGTHS):
        assert_close(hard[:, place], golden[f"himt/decode_hard/prefix_{length}/prob"], DRAWN)
        assert_close(soft[:, place], golden[f"soft/prefix_{length}/prob"], DRAWN)


def test_who_may_look_at_whom(tokenizer: MaskTokenizer, tiny_weights: Golden) -> None:
    blocked = causal_latent_mask(4 * 4 + 1, 32)
    assert blocked.dtype == torch.bool
    assert torch.equal(blocked, tiny_weights["encoder.attn_mask"].bool())


def test_masks_are_stretched_as_in_the_references_training(golden: Golden) -> None:
    mask = golden["himt/pil_resize/mask_75x110"].numpy() > 0
    expected = golden["himt/pil_resize/bicubic_square"].numpy().astype(np.float32) / 255
    np.testing.assert_array_equal(stretch_mask(mask, 64), expected)
