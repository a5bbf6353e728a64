import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from himtok_core.generation.text import TextStream
from tests.conftest import ANSWERS, SPECIAL, byte_tokenizer

BYTES = byte_tokenizer()


def fallback_tokenizer() -> PreTrainedTokenizerFast:
    """Like sentencepiece: a sign for spaces, byte pieces, and a decoder that drops the first space."""
    pieces = ["<unk>", *(f"<0x{index:02X}>" for index in range(256)), "▁", "a", "b", "▁a", "▁b"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges = [("▁", "a"), ("▁", "b")]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


FALLBACK = fallback_tokenizer()


def pieces_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    stream = TextStream(tokenizer)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [*(stream.feed(token) for token in ids), stream.close()]


@pytest.mark.parametrize("answer", ANSWERS.values())
def test_the_pieces_are_the_text(answer):
    pieces = pieces_of(BYTES, answer)
    assert "".join(pieces) == answer
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_no_space_comes_or_goes_around_special_tokens():
    text = " a<ref> b a</ref><|mt_start|><|mt_5|><|mt_end|> a."
    assert "".join(pieces_of(BYTES, text)) == text
    assert "".join(pieces_of(FALLBACK, text)) == text


@given(st.text(alphabet="ab <ä你🙂\n", max_size=20))
def test_characters_of_several_tokens_come_whole(text):
    for tokenizer in (BYTES, FALLBACK):
        pieces = pieces_of(tokenizer, text)
        assert "".join(pieces) == text
        assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@given(st.lists(st.integers(1, len(FALLBACK) - 1), max_size=30))
def test_any_ids_are_spelled_piece_by_piece(ids):
    written = b""
    for token in ids:
        piece = FALLBACK.convert_ids_to_tokens(token)
        is_byte = 1 <= token <= 256
        # A stretch of bytes ends where another piece begins: a zero byte keeps such stretches apart.
        written += bytes([token - 1]) if is_byte else b"\0" + piece.replace("▁", " ").encode() + b"\0"
    stream = TextStream(FALLBACK)
    text = "".join(stream.feed(token) for token in ids) + stream.close()
    assert text.replace("\0", "") == written.decode("utf-8", "replace").replace("\0", "")


@pytest.mark.parametrize("tokenizer", [BYTES, FALLBACK])
def test_a_character_that_is_cut_off_is_marked(tokenizer):
    stream = TextStream(tokenizer)
    ids = tokenizer("a🙂", add_special_tokens=False)["input_ids"]
    text = "".join(stream.feed(token) for token in ids[:-1])
    assert text == "a"
    assert set(stream.close()) == {"\N{REPLACEMENT CHARACTER}"}


def test_what_was_given_is_never_taken_back():
    # A tokenizer that decodes all byte pieces together would turn the first character into marks again.
    stream = TextStream(FALLBACK)
    ids = FALLBACK("你🙂", add_special_tokens=False)["input_ids"]
    text = "".join(stream.feed(token) for token in ids[:5])
    assert text == "你"
    assert text + stream.close() == "你\N{REPLACEMENT CHARACTER}"
