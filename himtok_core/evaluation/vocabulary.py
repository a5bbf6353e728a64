"""Open-vocabulary segmentation by asking: each class of a set is asked for in each picture.

Knows how replies to single classes become a map of the whole picture: where masks overlap, the one that the
model was surer of is on top. This is how the supplement (section H, figure 10) uses the model, which has no
output for a fixed list of classes.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import prompts
from ..data.classes import ClassSet, Labelled, Segments, read_maps, read_panoptic
from ..data.coco import mask_of
from ..data.problems import DataProblems
from ..errors import DataError, PromptError
from ..reply import Prompt, Reply
from . import metrics, segmentation
from .referring import marked
from .task import Sample, Task


@dataclass(frozen=True)
class ClassInPicture:
    """What one question is about."""

    picture: Labelled
    number: int


class OpenVocabularySegmentation(Task):
    """COCO-panoptic sets and plain class maps: mIoU, and PQ where instances are labelled.

    A picture counts once all classes were asked for in it.
    """

    name = "ovseg"
    help = "open-vocabulary segmentation: COCO-panoptic sets, or class maps with names"

    def __init__(self) -> None:
        self._set: ClassSet | None = None  # of `samples`, which `summary` reads the truth from again
        self._last: tuple[str, Segments] | None = None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """--pictures, --maps and --classes."""
        parser.add_argument("--pictures", type=Path, required=True, metavar="DIR", help="folder of pictures")
        parser.add_argument("--maps", type=Path, metavar="DIR",
                            help="PNGs of a panoptic set (default: the folder beside --data with its name)")
        parser.add_argument("--classes", type=Path, metavar="FILE",
                            help='names for class maps: "NUMBER: NAME" a line, or names that count from 0')

    def samples(self, options: argparse.Namespace, problems: DataProblems) -> Iterator[Sample]:
        """One sample for each class in each picture, picture by picture."""
        if options.data.is_dir():
            if options.classes is None:
                raise DataError("Class maps need --classes with the names of their classes.")
            self._set = read_maps(options.data, options.classes, options.pictures, problems)
        else:
            self._set = read_panoptic(options.data, options.maps, options.pictures, problems)
        asked = {}
        for number, name in self._set.names.items():
            try:
                asked[number] = Prompt(prompts.render("segment", phrase=name))
            except PromptError as error:
                raise DataError(f"The class {name!r} cannot be asked for: {error}") from error
        for picture in self._set.pictures:
            for number, prompt in asked.items():
                truth = ClassInPicture(picture, number)
                where = f"{picture.where}, {self._set.names[number]}"
                yield Sample(f"{picture.id}/{number}", picture.picture, prompt, truth, where)

    def row(self, sample: Sample, reply: Reply, protocol: str) -> dict:
        """The IoU of this class alone, and how sure the model was of each of its masks."""
        truth, ignored = self._class_mask(sample.truth)
        if truth.shape != (reply.size[1], reply.size[0]):
            raise DataError(f"the map has {truth.shape[1]} x {truth.shape[0]} pixels, "
                            f"the picture {reply.size[0]} x {reply.size[1]}")  # fmt: skip
        return {
            "score": metrics.iou(metrics.overlap(marked(reply), truth, ignored)),
            "picture": sample.truth.picture.id,
            "class": sample.truth.number,
            "sureness": [_sureness(item.probability) for item in reply.objects],
        }

    def summary(self, rows: list[dict], protocol: str) -> dict:
        """mIoU with the IoU of every class, and PQ of all, of things and of stuff where instances exist."""
        by_picture = defaultdict(list)
        for row in rows:
            by_picture[row["picture"]].append(row)
        numbers = list(self._set.names)
        places = {number: place for place, number in enumerate(numbers)}
        confusion = np.zeros((len(numbers), len(numbers) + 1), dtype=np.int64)
        matches, count = [], 0
        for picture in self._set.pictures:
            if len(by_picture[picture.id]) != len(numbers):
                continue
            count += 1
            truth = picture.segments()
            drawn, classes = _drawn(
                by_picture[picture.id], truth.numbers.shape, self._set.things or frozenset()
            )
            confusion += _confusion(truth, drawn, classes, places)
            if self._set.things is not None:
                matches.append(
                    segmentation.match_segments(drawn, classes, truth.numbers, truth.classes, truth.crowds)
                )
        value, ious = segmentation.mean_iou(confusion)
        scores = {"mIoU": value, "pictures": count}
        if self._set.things is not None:
            quality = segmentation.panoptic_quality(matches)
            scores["PQ"] = metrics.mean(list(quality.values()))
            scores["PQ_things"] = metrics.mean([v for k, v in quality.items() if k in self._set.things])
            scores["PQ_stuff"] = metrics.mean([v for k, v in quality.items() if k not in self._set.things])
        named = zip(numbers, ious, strict=True)
        scores["classes"] = {self._set.names[n]: iou for n, iou in named if not math.isnan(iou)}
        return scores

    def truth_masks(self, sample: Sample) -> list[np.ndarray]:
        """The class's mask, if it is in the picture."""
        mask, _ = self._class_mask(sample.truth)
        return [mask]

    def _class_mask(self, asked: ClassInPicture) -> tuple[np.ndarray, np.ndarray]:
        """The true mask of a class and the pixels without any, bool [H, W] each."""
        if self._last is None or self._last[0] != asked.picture.id:
            self._last = asked.picture.id, asked.picture.segments()
        truth = self._last[1]
        wanted = [segment for segment, kind in truth.classes.items() if kind == asked.number]
        labelled = [segment for segment, kind in truth.classes.items() if kind in self._set.names]
        return np.isin(truth.numbers, wanted), ~np.isin(truth.numbers, labelled)


def _sureness(probability: np.ndarray | None) -> float:
    """How sure the model is of a mask, 0..1: its mean probability inside; 1 where only the mask is known."""
    if probability is None:
        return 1.0
    inside = probability[probability > 0.5]
    return float(inside.mean()) if inside.size else 0.0


def _drawn(
    rows: list[dict], shape: tuple[int, int], things: frozenset[int]
) -> tuple[np.ndarray, dict[int, int]]:
    """All masks of a picture in one map, int32 [H, W] of segments from 1 on, and their classes.

    The surest mask is on top; of equally sure ones the smaller. Each mask of a thing is a segment, all masks
    of any other class together are one.
    """
    size = (shape[1], shape[0])
    layers = []
    for row in rows:
        for rle, sureness in zip(row["masks"], row["sureness"], strict=True):
            if rle is not None:
                mask = mask_of(rle, size)
                layers.append((sureness, -int(mask.sum()), row["class"], mask))
    layers.sort(key=lambda layer: layer[:3])
    drawn, classes, segment_of = np.zeros(shape, dtype=np.int32), {}, {}
    for place, (_, _, number, mask) in enumerate(layers, 1):
        segment = place if number in things else segment_of.setdefault(number, place)
        drawn[mask] = segment
        classes[segment] = number
    return drawn, classes


def _confusion(
    truth: Segments, drawn: np.ndarray, classes: dict[int, int], places: dict[int, int]
) -> np.ndarray:
    """Pixels (K, K + 1), true class by drawn class; the last column is for pixels that nobody marked."""
    count = len(places)
    true_place = np.full(max(truth.classes, default=0) + 1, -1)
    for segment, kind in truth.classes.items():
        true_place[segment] = places.get(kind, -1)
    our_place = np.full(max(classes, default=0) + 1, count)
    for segment, kind in classes.items():
        our_place[segment] = places[kind]
    true_map, our_map = true_place[truth.numbers], our_place[drawn]
    known = true_map >= 0
    pairs = true_map[known] * (count + 1) + our_map[known]
    return np.bincount(pairs, minlength=count * (count + 1)).reshape(count, count + 1)
