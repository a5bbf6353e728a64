"""Training samples -> what the language model learns from: ids, labels, pixels, masks and where they belong.

Knows the chat template, mask runs and tiles. Turning masks into mask tokens is left to the model's own mask
tokenizer, on its device, in `stage_model`; which sample comes when is `data.mixture`'s work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..data.jsonl import PICTURE, TrainingSample
from ..errors import CheckpointError, DataError, PromptError
from ..generation.turns import check_question
from ..geometry import stretch_mask
from ..images import normalise, open_picture, tile_picture
from ..lmm import HimtokConfig, HimtokProcessor
from ..lmm.processing import TURN_END

IGNORE = -100


@dataclass(frozen=True)
class Run:
    """A mask run in the ids.

    Attributes:
        place: of its first mask token. length: mask tokens. mask: index of its mask among the sample's, None
            if its tokens are the text's own. drawn: whether the mask losses are about it: it is complete, it
            has a mask, and the model is to say it.
    """

    place: int
    length: int
    mask: int | None
    drawn: bool


@dataclass(frozen=True)
class Example:
    """A sample in numbers.

    Attributes:
        ids: T token ids, placeholders still in the runs that have a mask.
        labels: the same where the model speaks, IGNORE elsewhere.
        pixel_values: float32 (tiles, 3, S, S), no tiles for text alone.
        masks: float32 (masks, s, s) in [0, 1] at the mask tokenizer's size.
        runs: in the order of the text.
    """

    ids: list[int]
    labels: list[int]
    pixel_values: np.ndarray
    masks: np.ndarray
    runs: tuple[Run, ...]


class ConversationWriter:
    """Samples -> examples for one model.

    Args:
        processor, config: of the model.
        max_tiles: of a picture, before the thumbnail; the model's own limit holds as well.
        max_length: tokens of a sample; the model's own limit holds as well.
        reference: masks and runs as the reference implementation takes them: exactly one mask a sample,
            an empty one if it names none, and it is that of the first run.
    """

    def __init__(
        self,
        processor: HimtokProcessor,
        config: HimtokConfig,
        max_tiles: int,
        max_length: int,
        reference: bool = False,
    ):
        self.processor, self.config, self.reference = processor, config, reference
        self.max_tiles = min(max_tiles, processor.image_processor.max_tiles)
        self.max_length = min(max_length, config.text_config.max_position_embeddings)
        self.mask_size = config.mask_tokenizer_config.mask_size

    def example(
        self, sample: TrainingSample, max_tiles: int | None = None, spoil: np.random.Generator | None = None
    ) -> Example:
        """One sample.

        Args:
            max_tiles: of the data set, instead of the run's. Several pictures share them.
            spoil: saves every tile as a JPEG of a quality from 75 to 100, drawn from this; None for no loss.

        Raises:
            DataError: if the text, a run or a mask cannot be used, or the sample is too long.
            PictureError: if a picture or mask file cannot be read.
        """
        size = self.processor.image_processor.image_size
        limit = max_tiles or self.max_tiles
        pictures = [open_picture(path) for path in sample.pictures]
        tiles = [tile_picture(picture, size, max(1, limit // len(pictures))) for picture in pictures]
        ids, labels = self.ids_and_labels(sample.turns, [len(cut) for cut in tiles], sample.system)
        if len(ids) > self.max_length:
            raise DataError(f"the sample has {len(ids)} tokens, at most {self.max_length} are possible")
        masks = [self._mask(path, pictures) for path in sample.masks]
        if self.reference:
            masks = masks or [np.zeros((self.mask_size, self.mask_size), dtype=np.float32)]
        shown = [tile for cut in tiles for tile in cut]
        if spoil is not None:
            shown = [spoiled(tile, int(spoil.integers(75, 101))) for tile in shown]
        return Example(
            ids,
            labels,
            normalise(shown) if shown else np.zeros((0, 3, size, size), dtype=np.float32),
            np.stack(masks) if masks else np.zeros((0, self.mask_size, self.mask_size), dtype=np.float32),
            self._runs(ids, labels, len(masks)),
        )

    def ids_and_labels(
        self, turns: Sequence[tuple[str, str]], num_tiles: Sequence[int], system: str | None = None
    ) -> tuple[list[int], list[int]]:
        """A conversation as the model reads and writes it, turn by turn: ids, and labels of what it says.

        The model says its answers and the end of the turn; what comes before and between is given to it.

        Args:
            turns: (question, answer) pairs, `<image>` where a picture stands. num_tiles: of each picture,
                thumbnail included. system: the system message, None for the model's own.

        Raises:
            DataError: if a text holds tokens that are reserved for the conversation itself.
        """
        for text in (system or "", *(text for turn in turns for text in turn)):
            try:
                check_question(self.processor, text)
            except PromptError as error:
                raise DataError(f"a turn of the conversation cannot be learned: {error}") from error
        tokenizer, tiles = self.processor.tokenizer, iter(num_tiles)
        messages = [] if system is None else [{"role": "system", "content": system}]
        written, ids, labels = "", [], []
        for number, (question, answer) in enumerate(turns):
            question = question.replace(PICTURE, self.processor.image_token)
            messages.append({"role": "user", "content": question})
            asked = self._added(written, self._write(messages, answer_follows=True))
            written += asked
            # Picture by picture, in the order of the text.
            first, *others = asked.split(self.processor.image_token)
            asked = first + "".join(self.processor.picture_text(next(tiles)) + part for part in others)
            given = tokenizer(asked, add_special_tokens=number == 0)["input_ids"]
            messages.append({"role": "assistant", "content": answer})
            written += answer + TURN_END
            said = tokenizer(answer + TURN_END, add_special_tokens=False)["input_ids"]
            ids += given + said
            labels += [IGNORE] * len(given) + said
        rest = self._added(written, self._write(messages, answer_follows=False))
        rest = tokenizer(rest, add_special_tokens=False)["input_ids"] if rest else []
        return ids + rest, labels + [IGNORE] * len(rest)

    def _write(self, messages: list[dict], answer_follows: bool) -> str:
        return self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=answer_follows
        )

    def _added(self, before: str, after: str) -> str:
        if not after.startswith(before):
            raise CheckpointError("The model's chat template changes earlier turns; it cannot be trained so.")
        return after[len(before) :]

    def _mask(self, path: Path, pictures: Sequence[Image.Image]) -> np.ndarray:
        """A mask file, stretched: 0 is outside, 255 inside; in a file of 0 and 1, 1 is inside."""
        grey = np.asarray(open_picture(path).convert("L"), dtype=np.float32)
        size = (grey.shape[1], grey.shape[0])
        if pictures and size not in [picture.size for picture in pictures]:
            sizes = " or ".join(f"{picture.width} x {picture.height}" for picture in pictures)
            raise DataError(f"the mask {path} is {size[0]} x {size[1]} pixels, its picture is {sizes}")
        return stretch_mask(grey / (1 if grey.max() == 1 else 255), self.mask_size)

    def _runs(self, ids: list[int], labels: list[int], masks: int) -> tuple[Run, ...]:
        """The mask runs among the ids, and which mask belongs to which.

        As many masks as runs: one each, in order. Otherwise the masks are those of the runs that consist of
        `<|mt_0|>` only.
        """
        config, longest = self.config, self.config.mask_tokenizer_config.num_latent_tokens
        tokens = range(config.first_mask_id, config.last_mask_id + 1)
        spans, place = [], 0
        while place < len(ids):
            if ids[place] in tokens or ids[place] == config.mask_end_id:
                raise DataError("the text holds mask tokens outside of a run <|mt_start|>...<|mt_end|>")
            if ids[place] == config.mask_start_id:
                end = place + 1
                while end < len(ids) and ids[end] in tokens:
                    end += 1
                length = end - place - 1
                if end == len(ids) or ids[end] != config.mask_end_id or not 1 <= length <= longest:
                    raise DataError(
                        f"a mask run must be <|mt_start|>, 1 to {longest} mask tokens and <|mt_end|>; "
                        f"one here has {length} before something else"
                    )
                spans.append((place + 1, length))
                place = end
            place += 1
        filled = self._filled(ids, spans, masks)
        return tuple(
            Run(
                start,
                length,
                filled.get(number),
                drawn=number in filled and length == longest and labels[start] != IGNORE,
            )
            for number, (start, length) in enumerate(spans)
        )

    def _filled(self, ids: list[int], spans: list[tuple[int, int]], masks: int) -> dict[int, int]:
        """Which runs get a mask: number of the run -> index of the mask."""
        longest = self.config.mask_tokenizer_config.num_latent_tokens
        if self.reference:
            if masks > 1 or any(length != longest for _, length in spans):
                raise DataError(f"the reference knows one mask a sample and runs of {longest} tokens only")
            return {0: 0} if spans else {}
        if len(spans) == masks:
            return {number: number for number in range(masks)}
        first = self.config.first_mask_id
        empty = [
            number
            for number, (start, length) in enumerate(spans)
            if all(token == first for token in ids[start : start + length])
        ]
        if masks == 0 and any(spans[number][1] > 1 for number in empty):
            raise DataError('a mask run stands for a mask (it is all <|mt_0|>), but the sample has no "mask"')
        if masks and len(empty) != masks:
            raise DataError(
                f"the sample has {masks} masks for {len(spans)} mask runs, {len(empty)} of them all <|mt_0|>"
            )
        return {number: index for index, number in enumerate(empty)} if masks else {}


def spoiled(tile: Image.Image, quality: int) -> Image.Image:
    """A picture after a JPEG of that quality."""
    file = BytesIO()
    tile.save(file, format="JPEG", quality=quality)
    file.seek(0)
    return Image.open(file).convert("RGB")


def collate(
    examples: Sequence[Example], processor: HimtokProcessor, levels: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Examples -> one batch, padded on the right.

    Args:
        levels: of the hierarchical mask loss, see `stage_model`.

    Returns:
        `input_ids`, `labels`, `attention_mask`: int64 (B, T).
        `pixel_values`: float32 (tiles, 3, S, S); `image_flags`: bool (tiles,). A batch of text alone has one
        blank tile without a flag: in a run over several devices all of them have to pass the vision tower.
        `masks`: float32 (M, s, s).
        `filled`: int64 (R, 4), the runs that get a mask: row, place, length, index into `masks`.
        `drawn`: int64 (D, 3), the runs of the mask losses: row, place, index into `masks`.
        `levels`: as given.
    """
    longest = max(len(example.ids) for example in examples)
    pad = processor.tokenizer.pad_token_id
    ids = torch.full((len(examples), longest), pad)
    labels = torch.full_like(ids, IGNORE)
    attention = torch.zeros_like(ids)
    filled, drawn, masks = [], [], 0
    for row, example in enumerate(examples):
        length = len(example.ids)
        ids[row, :length] = torch.tensor(example.ids)
        labels[row, :length] = torch.tensor(example.labels)
        attention[row, :length] = 1
        for run in example.runs:
            if run.mask is not None:
                filled.append((row, run.place, run.length, masks + run.mask))
            if run.drawn:
                drawn.append((row, run.place, masks + run.mask))
        masks += len(example.masks)
    tiles = np.concatenate([example.pixel_values for example in examples])
    flags = torch.ones(max(1, len(tiles)), dtype=torch.bool)
    if not len(tiles):
        tiles, flags = np.zeros((1, *tiles.shape[1:]), dtype=np.float32), ~flags
    return {
        "input_ids": ids,
        "labels": labels,
        "attention_mask": attention,
        "pixel_values": torch.from_numpy(tiles),
        "image_flags": flags,
        "masks": torch.from_numpy(np.concatenate([example.masks for example in examples])),
        "filled": torch.tensor(filled, dtype=torch.int64).reshape(-1, 4),
        "drawn": torch.tensor(drawn, dtype=torch.int64).reshape(-1, 3),
        "levels": levels,
    }

