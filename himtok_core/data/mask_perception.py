"""Mask Perception on disk: the published JSON, and training conversations of the same items.

Knows the layouts. The published file is a list of {"image", "question", "answer"}, where the question holds a
mask run and the options, and the answer a letter; these keys are what the reference implementation reads. A
run means something to one mask tokenizer only, so files written here also have the masks themselves under
"masks", and the question has `<mask>` in place of the run unless a tokenizer was named.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .. import geometry
from ..errors import DataError, MaskError
from ..markup import MASK_START, MAX_RUN, mask_run
from .coco import read_json
from .mask_choices import LETTERS, MaskChoice
from .pictures import find_picture
from .problems import DataProblems

MASK = "<mask>"  # stands for a mask run
# They are not those of `wordings`, which may grow: a test set that is built again is the same.
WORDINGS = (
    "What does the mask <mask> show?\n{options}",
    "Which of these is the mask <mask>?\n{options}",
    "What is in the mask <mask>?\n{options}",
    "<mask>\nWhat is this?\n{options}",
    "Which object has the mask <mask>?\n{options}",
)
PLACEHOLDER = mask_run([0] * MAX_RUN)  # stands for a mask that is a file, in training data
ALL_THAT_FIT = "Select all that fit."
_IMAGE = "<image>"
_RUN = re.compile(r"<\|mt_start\|>(?:<\|mt_[0-9]+\|>)*<\|mt_end\|>")
_OPTION = re.compile(r"^[ \t]*\(?([A-E])[.):][ \t]*(\S.*)$", re.MULTILINE)


@dataclass(frozen=True, eq=False)
class MaskQuestion:
    """A question about a mask.

    Attributes:
        id: its place in the file, from 0.
        picture: its file, which exists.
        text: the question, with mask runs as published, or `<mask>` for each of `masks`.
        options: letter -> expression, empty if the question does not list them line by line.
        answer: the right letter or letters as they stand in the file.
        masks: compressed COCO RLE each; empty if the file has only runs.
        where: file and item.
    """

    id: str
    picture: Path
    text: str
    options: dict[str, str]
    answer: str
    masks: tuple[dict, ...]
    where: str


def read_mask_perception(
    path: Path, pictures: Path | None, problems: DataProblems
) -> Iterator[MaskQuestion]:
    """The questions of a file in the published layout, in its order.

    Args:
        path: `mask_perception.json`.
        pictures: folder of the pictures; by default they are looked for beside the file.
        problems: gets what cannot be used.

    Raises:
        DataError: if the file is missing or of another layout.
    """
    items = read_json(path)
    if not isinstance(items, list):
        raise DataError(f'{path} should be a list of objects with "image", "question" and "answer".')
    folders = [pictures] if pictures is not None else [path.parent]
    for number, item in enumerate(items):
        where = f"{path.name}: item {number}"
        match item:
            case {"image": str(image), "question": str(question), "answer": str(answer)} if question.strip():
                masks = item.get("masks", [])
            case _:
                problems.report(where, 'it needs the texts "image", "question" and "answer"')
                continue
        picture = find_picture(image, folders)
        if picture is None:
            problems.report(where, f"there is no picture {image} in {folders[0]}")
            continue
        text = question.replace(_IMAGE, "", 1).strip()
        if masks:
            text = _RUN.sub(MASK, text)
        wrong = _problem(text, masks)
        if wrong:
            problems.report(where, wrong)
            continue
        options = dict(_OPTION.findall(text))
        yield MaskQuestion(str(number), picture, text, options, answer, tuple(masks), where)


def published_item(
    choice: MaskChoice, wording: str, multiple: bool, encode: Callable[[np.ndarray], str] | None
) -> dict:
    """An item in the published layout, ready for JSON.

    Args:
        wording: one of `WORDINGS`. multiple: whether the question says that several options may fit.
        encode: a bool mask [H, W] -> its run; None leaves `<mask>` in the question.
    """
    mask = choice.target.mask()
    listed = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, choice.options, strict=True))
    question = wording.format(options=listed) + (f"\n{ALL_THAT_FIT}" if multiple else "")
    if encode is not None:
        question = question.replace(MASK, encode(mask))
    return {
        "image": choice.target.picture,
        "question": question,
        "answer": ", ".join(choice.right),
        "masks": [geometry.mask_to_rle(mask)],
    }


def conversation(item: dict, mask: str | None) -> dict:
    """A published item as a line of training data in the reference implementation's layout.

    Args:
        mask: file of the mask, if the question has `<mask>`, which then becomes the run that stands for any.

    Returns:
        "image", "mask" and "conversations".
    """
    line = {"image": item["image"]}
    if mask is not None:
        line["mask"] = mask
    question = item["question"].replace(MASK, PLACEHOLDER)
    line["conversations"] = [
        {"from": "human", "value": f"{_IMAGE}\n{question}"},
        {"from": "gpt", "value": item["answer"]},
    ]
    return line


def write_items(
    path: Path,
    choices: Sequence[MaskChoice],
    multiple: bool,
    rng: np.random.Generator,
    encode: Callable[[np.ndarray], str] | None = None,
) -> None:
    """Writes items in the published layout, or as training conversations if the file's name ends in .jsonl.

    Conversations without `encode` need the masks as files, which go to `FILE_masks/` beside `FILE.jsonl`.

    Args:
        rng: chooses the wording of each question. For the rest see `published_item`.

    Raises:
        DataError: if the files cannot be written.
    """
    folder = path.parent / f"{path.stem}_masks"
    lines = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jsonl" and encode is None:
            folder.mkdir(exist_ok=True)
        for number, choice in enumerate(choices):
            wording = WORDINGS[rng.integers(len(WORDINGS))]
            item = published_item(choice, wording, multiple, encode)
            if path.suffix == ".jsonl":
                mask = None
                if encode is None:
                    mask = f"{folder.name}/{number}.png"
                    Image.fromarray(choice.target.mask()).save(path.parent / mask)
                item = conversation(item, mask)
            lines.append(json.dumps(item, ensure_ascii=False))
        if path.suffix == ".jsonl":
            text = "".join(f"{line}\n" for line in lines)
        else:
            text = "[\n" + ",\n".join(lines) + "\n]\n"
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error


def _problem(text: str, masks: object) -> str | None:
    """What is wrong with an item's question and masks, if anything."""
    if not isinstance(masks, list):
        return '"masks" should be a list of COCO RLE'
    places = text.count(MASK)
    if places != len(masks):
        return f"the question has {places} places for masks, and there are {len(masks)} masks"
    if not masks and MASK_START not in text:
        return "the question holds no mask"
    try:
        for mask in masks:
            geometry.rle_to_mask(mask)
    except MaskError as error:
        return str(error)
    return None
