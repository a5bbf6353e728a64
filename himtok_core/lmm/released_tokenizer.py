"""The tokenizer of a released checkpoint, built from its data files alone.

The reference brings a sentencepiece model, a list of added tokens, and Python code of its own that joins
them. Here the same ids come from a fast tokenizer and no code of the checkpoint runs. Decoding writes the
text as it is; the reference's extra spaces around special tokens and its English clean-up are left out.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, Qwen2TokenizerFast

from ..errors import CheckpointError

NORMAL, USER_DEFINED = 1, 4  # kinds of sentencepiece pieces that matter here
SPACE = "\u2581"  # how sentencepiece writes a space


@dataclass(frozen=True)
class Piece:
    """One entry of a sentencepiece vocabulary; a higher score merges first."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePieceModel:
    """What of a sentencepiece file decides the ids of a text."""

    pieces: tuple[Piece, ...]
    character_map: bytes
    adds_prefix: bool
    joins_spaces: bool


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a released checkpoint, padding on the left.

    Raises:
        CheckpointError: if the folder has no tokenizer files, or they do not fit together.
    """
    if (folder / "tokenizer.model").is_file():
        return from_sentencepiece(folder)
    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder, padding_side="left")
    if (folder / "vocab.json").is_file():
        return Qwen2TokenizerFast.from_pretrained(folder, padding_side="left")
    raise CheckpointError(
        f"{folder} has no tokenizer: neither tokenizer.model, tokenizer.json nor vocab.json"
    )


def from_sentencepiece(folder: Path) -> PreTrainedTokenizerFast:
    """tokenizer.model and the added tokens of tokenizer_config.json -> a fast tokenizer with the same ids.

    The names of the added tokens win over pieces of the same id: the chat tokens lie over unused pieces of
    the base vocabulary.
    """
    model = read_sentencepiece((folder / "tokenizer.model").read_bytes())
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    if "added_tokens_decoder" not in settings:
        raise CheckpointError(f"tokenizer_config.json in {folder} has no added_tokens_decoder")
    added = {int(id): entry["content"] for id, entry in settings["added_tokens_decoder"].items()}
    last = max(added, default=0)
    if missing := set(range(len(model.pieces), last + 1)) - set(added):
        raise CheckpointError(f"tokenizer_config.json in {folder} leaves id {min(missing)} without a token")

    vocabulary = {added.get(id, piece.text): id for id, piece in enumerate(model.pieces)}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=merges(model.pieces, vocabulary),
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    # The reference's base vocabulary still finds a piece's old name in a text and gives it the id that is
    # now a chat token's; so the old name is turned into the chat token. An added prefix would be in the way.
    renamed = {
        piece.text: added[id]
        for id, piece in enumerate(model.pieces)
        if id in added and piece.kind == USER_DEFINED and not model.adds_prefix
    }
    tokenizer.normalizer = normaliser(model, renamed)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(  # new ids are given in the order of this list
        [
            AddedToken(added[id], normalized=added[id] in renamed.values(), special=True)
            for id in sorted(added)
        ]
    )
    tokenizer.add_tokens(
        [
            AddedToken(piece.text, normalized=False)
            for id, piece in enumerate(model.pieces)
            if piece.kind == USER_DEFINED and id not in added
        ]
    )
    start = "<s>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", pair=f"{start} $A {start} $B", special_tokens=[(start, vocabulary[start])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token="</s>",
        pad_token="</s>",
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def merges(pieces: tuple[Piece, ...], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """The merge rules that make byte-pair encoding follow the scores of the pieces.

    Every way to split a piece into two pieces is a rule; rules of better pieces come first.
    """
    rules = []
    for piece in pieces:
        if piece.kind != NORMAL or piece.text not in vocabulary:
            continue
        for cut in range(1, len(piece.text)):
            left, right = piece.text[:cut], piece.text[cut:]
            if left in vocabulary and right in vocabulary:
                rules.append((-piece.score, vocabulary[left], vocabulary[right], left, right))
    return [(left, right) for *_, left, right in sorted(rules)]


def normaliser(model: SentencePieceModel, renamed: dict[str, str]) -> normalizers.Sequence:
    """What happens to the text between special tokens before it is cut into pieces."""
    steps = [normalizers.Replace(old, new) for old, new in renamed.items()]
    if model.character_map:
        steps.append(normalizers.Precompiled(model.character_map))
    if model.joins_spaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if model.adds_prefix:
        steps.append(normalizers.Prepend(SPACE))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])


def read_sentencepiece(data: bytes) -> SentencePieceModel:
    """Read a sentencepiece model file (a protocol buffer `ModelProto`; numbers below are its fields)."""
    pieces, normalizer = [], {}
    for number, value in fields(data):
        if number == 1:
            entry = dict(fields(value))
            score = struct.unpack("<f", entry[2])[0] if 2 in entry else 0.0
            pieces.append(Piece(entry[1].decode("utf-8"), score, entry.get(3, NORMAL)))
        elif number == 3:
            normalizer = dict(fields(value))
    return SentencePieceModel(
        pieces=tuple(pieces),
        character_map=normalizer.get(2, b""),
        adds_prefix=bool(normalizer.get(3, True)),
        joins_spaces=bool(normalizer.get(4, True)),
    )


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of every field of a protocol buffer message: int, or bytes as they are stored."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(message):
        number, wire_type = divmod(varint(), 8)
        if wire_type == 0:
            yield number, varint()
            continue
        size = {1: 8, 5: 4}[wire_type] if wire_type in (1, 5) else varint()
        yield number, message[position : position + size]
        position += size
