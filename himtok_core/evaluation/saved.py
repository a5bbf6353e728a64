"""Replies that were saved earlier, by this project or another: masks to be scored without a model.

Knows two layouts: the rows that a run writes (`rows.jsonl`), and COCO's results, a JSON list of {"id": sample
id, "segmentation": RLE, "bbox": [x, y, width, height], "text": words}, where an id may come several times
and everything but the id may be missing.
"""

from collections import defaultdict
from pathlib import Path

from .. import geometry
from ..data.coco import mask_of, read_json, read_lines
from ..data.problems import DataProblems
from ..errors import DataError, HimtokError
from ..reply import Reply, ReplyObject


class SavedReplies:
    """Saved replies by sample id.

    Args:
        path: `rows.jsonl`, or COCO results as JSON.
        problems: gets lines that cannot be read.

    Raises:
        DataError: if the file is of neither layout.
    """

    def __init__(self, path: Path, problems: DataProblems):
        self.path = path
        self._entries: dict[str, list[dict]] = defaultdict(list)
        if path.suffix == ".jsonl":
            entries = [entry for _, entry in read_lines(path, problems)]
        else:
            entries = read_json(path)
        if not isinstance(entries, list) or not all(isinstance(item, dict) for item in entries):
            raise DataError(f"{path} holds no predictions: it should be COCO results or a run's rows.jsonl.")
        for number, entry in enumerate(entries):
            name = entry.get("id", entry.get("image_id"))
            if name is None:
                raise DataError(f'{path}, entry {number}, has no "id" that says which sample it answers.')
            self._entries[str(name)].append(entry)

    def reply(self, name: str, size: tuple[int, int]) -> Reply:
        """The reply to a sample on a picture of size (width, height).

        Raises DataError if there is none, or if it does not fit the picture.
        """
        objects: list[ReplyObject] = []
        texts: list[str] = []
        try:
            for entry in self._found(name):
                texts.append(entry.get("reply", entry.get("text")) or "")
                if "masks" in entry:  # a row of a run
                    objects += _objects_of_row(entry, size)
                    continue
                mask, box = entry.get("segmentation"), entry.get("bbox")
                if mask is not None or box is not None:
                    drawn = None if mask is None else mask_of(mask, size)
                    objects.append(ReplyObject("", _corners(box), drawn, None))
            return Reply("".join(texts), tuple(objects), size)
        except (HimtokError, TypeError, ValueError, KeyError) as error:
            raise DataError(f"the prediction for sample {name} does not fit: {error}") from error

    def size(self, name: str) -> tuple[int, int] | None:
        """(width, height) of the picture, as far as a prediction says it; None if it does not.

        Raises DataError if there is no prediction.
        """
        for entry in self._found(name):
            match entry:
                case {"size": [int(width), int(height)]}:
                    return width, height
            for mask in entry.get("masks", [entry.get("segmentation")]):
                match mask:
                    case {"size": [int(height), int(width)]}:
                        return width, height
        return None

    def _found(self, name: str) -> list[dict]:
        if name not in self._entries:
            raise DataError(f"{self.path.name} has no prediction for sample {name}")
        return self._entries[name]


def row_of_reply(reply: Reply) -> dict:
    """The part of a reply that a run's row keeps, and that `SavedReplies` reads back."""
    return {
        "reply": reply.text,
        "size": reply.size,
        "masks": [None if item.mask is None else geometry.mask_to_rle(item.mask) for item in reply.objects],
        "boxes": [item.box for item in reply.objects],
        "labels": [item.label for item in reply.objects],
        "tokens": [item.tokens for item in reply.objects],
        "problems": list(reply.problems),
    }


def _objects_of_row(row: dict, size: tuple[int, int]) -> list[ReplyObject]:
    count = len(row["masks"])
    labels, tokens = row.get("labels", [""] * count), row.get("tokens", [()] * count)
    objects = []
    for label, box, mask, run in zip(labels, row["boxes"], row["masks"], tokens, strict=True):
        drawn = None if mask is None else mask_of(mask, size)
        objects.append(ReplyObject(label, tuple(box) if box else None, drawn, None, tuple(run)))
    return objects


def _corners(box: list | None) -> tuple[float, float, float, float] | None:
    if box is None:
        return None
    x, y, width, height = box
    return x, y, x + width, y + height
