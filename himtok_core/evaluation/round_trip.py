"""The mask tokenizer alone: masks to tokens and back, from 1, 2, 4, ... tokens; the rest is not asked."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .. import geometry
from ..data.coco import mask_of, read_instances, size_of
from ..data.problems import DataProblems
from ..errors import DataError, PictureError
from ..images import open_picture
from ..markup import CODEBOOK_SIZE
from ..reply import Reply, ReplyObject
from . import metrics
from .task import Sample, Task

if TYPE_CHECKING:
    from ..chat import Chat

LENGTHS = (1, 2, 4, 8, 16, 32)
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


class MaskFile:
    """A mask that is read when it is needed. Raises DataError then if that is not possible."""

    def __init__(self, path: Path):
        self.path = path

    def mask(self) -> np.ndarray:
        """bool [H, W]: what is brighter than half of the brightest pixel, be that 1 or 255."""
        try:
            grey = np.asarray(open_picture(self.path).convert("L"))
        except PictureError as error:
            raise DataError(str(error)) from error
        return grey > grey.max() / 2


class MaskAnnotation:
    """A mask of a COCO file. size: (width, height)."""

    def __init__(self, annotation: dict, size: tuple[int, int]):
        self.annotation = annotation
        self.size = size

    def mask(self) -> np.ndarray:
        """bool [H, W]."""
        return mask_of(self.annotation.get("segmentation"), self.size)


class RoundTrip(Task):
    """Round-trip IoU for each prefix length (the paper, table 6), and how the codebook is used.

    Masks are compared at their own size, so what stretching to the tokenizer's costs is part of the score.
    """

    name = "tokenizer"
    help = "the mask tokenizer's round trip: a folder of masks, or a COCO instances.json"

    def samples(self, options: argparse.Namespace, problems: DataProblems) -> Iterator[Sample]:
        """One sample a mask: the files of a folder by name, or the annotations of a COCO file."""
        if options.data.is_dir():
            paths = sorted(path for path in options.data.iterdir() if path.suffix.lower() in _PICTURES)
            if not paths:
                raise DataError(f"{options.data} has no masks: pictures are wanted, bright where a mask is.")
            for path in paths:
                yield Sample(path.name, None, None, MaskFile(path), path.name)
            return
        instances = read_instances(options.data)
        for number, annotation in instances.annotations.items():
            where = f"{options.data.name}: annotation {number}"
            try:
                size = size_of(instances.images[annotation["image_id"]])
            except KeyError:
                problems.report(where, "its picture is not in the file")
            except DataError as error:
                problems.report(where, str(error))
            else:
                yield Sample(str(number), None, None, MaskAnnotation(annotation, size), where)

    def answer(
        self,
        chat: "Chat",
        pictures: Sequence[Image.Image | None],
        samples: Sequence[Sample],
        options: argparse.Namespace,
    ) -> list[Reply]:
        """For each mask a reply with one object for each prefix length, in the order of LENGTHS."""
        import torch

        tokenizer = chat.mask_tokenizer
        lengths = [length for length in LENGTHS if length <= tokenizer.config.num_latent_tokens]
        masks = [sample.truth.mask() for sample in samples]
        stretched = np.stack([geometry.stretch_mask(mask, tokenizer.config.mask_size) for mask in masks])
        tokens = tokenizer.encode(torch.from_numpy(stretched))
        drawn = tokenizer.decode_prefixes(tokens, lengths).float().cpu().numpy()  # (B, P, S, S)
        replies = []
        for mask, numbers, prefixes in zip(masks, tokens.tolist(), drawn, strict=True):
            size = (mask.shape[1], mask.shape[0])
            objects = tuple(
                ReplyObject(
                    f"{length} tokens", None, geometry.mask_from_probability(probability, size), probability,
                    tuple(numbers[:length]),
                )
                for length, probability in zip(lengths, prefixes, strict=True)
            )  # fmt: skip
            replies.append(Reply("", objects, size))
        return replies

    def row(self, sample: Sample, reply: Reply, protocol: str) -> dict:
        """The IoU for each prefix length, and the tokens."""
        truth = sample.truth.mask()
        ious = {}
        for item in reply.objects:
            if item.mask is None or not item.tokens:
                raise DataError("a saved reply does not say which prefix a mask is from: ask the tokenizer")
            ious[str(len(item.tokens))] = metrics.iou(metrics.overlap(item.mask, truth))
        return {"score": list(ious.values())[-1], "iou": ious, "tokens": list(reply.objects[-1].tokens)}

    def summary(self, rows: list[dict], protocol: str) -> dict:
        """The mean IoU for each prefix length, codes used at least once, and their perplexity."""
        used = np.zeros(CODEBOOK_SIZE, dtype=np.int64)
        for row in rows:
            used += np.bincount(row["tokens"], minlength=CODEBOOK_SIZE)
        lengths = rows[0]["iou"] if rows else {}
        return {
            "mean_iou": {length: metrics.mean([row["iou"][length] for row in rows]) for length in lengths},
            "codes_used": int((used > 0).sum()),
            "codebook_size": CODEBOOK_SIZE,
            "perplexity": metrics.perplexity(used),
        }

    def truth_masks(self, sample: Sample) -> list[np.ndarray]:
        """The mask that went in."""
        return [sample.truth.mask()]
