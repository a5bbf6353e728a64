"""Tiny data sets in the layouts in which the public ones are published, drawn and written by hand.

Every picture has 96 x 64 pixels: a red square at (8, 8)-(32, 32), a blue circle around (64, 32) of radius 16.
"""

import json
import pickle
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from himtok_core import geometry

WIDTH, HEIGHT = SIZE = (96, 64)
SQUARE_BOX = (8, 8, 32, 32)

SQUARE = np.zeros((HEIGHT, WIDTH), dtype=bool)
SQUARE[8:32, 8:32] = True
_rows, _columns = np.mgrid[:HEIGHT, :WIDTH]
CIRCLE = (_columns - 64) ** 2 + (_rows - 32) ** 2 <= 16**2
NOTHING = np.zeros_like(SQUARE)

SQUARE_POLYGON = [[8, 8, 32, 8, 32, 32, 8, 32]]
CIRCLE_RLE = geometry.mask_to_rle(CIRCLE)


def picture() -> Image.Image:
    """The picture that all the sets are about."""
    drawn = Image.new("RGB", SIZE, (235, 235, 225))
    draw = ImageDraw.Draw(drawn)
    draw.rectangle((8, 8, 31, 31), fill=(220, 40, 40))
    draw.ellipse((48, 16, 80, 48), fill=(40, 80, 220))
    return drawn


def uncompressed(mask: np.ndarray) -> dict:
    """COCO's RLE with the run lengths as a list."""
    counts, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel == value:
            counts[-1] += 1
        else:
            counts.append(1)
            value = pixel
    return {"size": list(mask.shape), "counts": counts}


def write_json(path: Path, content: object) -> Path:
    """Writes and returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def image_entry(number: int) -> dict:
    """An entry of COCO's "images"."""
    return {"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT}


def annotations() -> dict[int, dict]:
    """Square as polygon and circle as compressed RLE in picture 1, the circle as a list of runs in 2."""
    return {
        11: {"id": 11, "image_id": 1, "segmentation": SQUARE_POLYGON, "category_id": 1, "iscrowd": 0},
        12: {"id": 12, "image_id": 1, "segmentation": CIRCLE_RLE, "category_id": 2, "iscrowd": 0},
        21: {"id": 21, "image_id": 2, "segmentation": uncompressed(CIRCLE), "category_id": 2, "iscrowd": 1},
    }


def sentence(number: int, text: str) -> dict:
    """An expression."""
    return {"sent_id": number, "sent": text, "raw": text, "tokens": text.split()}


def refs() -> list[dict]:
    """RefCOCO's entries: three objects, four expressions, one more in another split."""

    def entry(ref: int, image: int, annotation: int, sentences: list[dict], split: str = "val") -> dict:
        return {
            "ref_id": ref, "image_id": image, "ann_id": annotation, "category_id": 1, "split": split,
            "sentences": sentences, "sent_ids": [item["sent_id"] for item in sentences],
            "file_name": f"COCO_train2014_{image:012}_{ref}.jpg",
        }  # fmt: skip

    return [
        entry(100, 1, 11, [sentence(1000, "red square"), sentence(1001, "the square")]),
        entry(101, 1, 12, [sentence(1002, "blue circle")]),
        entry(102, 2, 21, [sentence(1003, "blue circle")]),
        entry(103, 2, 21, [sentence(1004, "circle")], split="testA"),
    ]


def write_pictures(folder: Path) -> Path:
    """`1.png` and `2.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in (1, 2):
        picture().save(folder / f"{number}.png")
    return folder


def write_refcoco(folder: Path, entries: list[dict] | None = None) -> Path:
    """`refs(unc).p`, which is returned, `instances.json`, `pictures/`."""
    write_pictures(folder / "pictures")
    instances = {"images": [image_entry(1), image_entry(2)], "annotations": list(annotations().values())}
    write_json(folder / "instances.json", instances)
    path = folder / "refs(unc).p"
    path.write_bytes(pickle.dumps(refs() if entries is None else entries, protocol=2))
    return path


def write_psalm(folder: Path) -> Path:
    """The val split as PSALM converts it."""
    write_pictures(folder / "pictures")
    chosen = [entry for entry in refs() if entry["split"] == "val"]
    items = [
        {
            "image": f"{entry['image_id']}.png",
            "image_info": image_entry(entry["image_id"]),
            "instruction": entry["sentences"],
            "anns": [annotations()[entry["ann_id"]]],
            "new_img_id": number,
        }
        for number, entry in enumerate(chosen)
    ]
    return write_json(folder / "refcoco_val.json", items)


def write_grefcoco(folder: Path) -> Path:
    """`grefs(unc).json`: one target, both objects, nothing."""
    write_refcoco(folder)
    (folder / "refs(unc).p").unlink()

    def entry(ref: int, found: list[int], sentences: list[dict]) -> dict:
        return {
            "ref_id": ref, "image_id": 1, "ann_id": found, "split": "val", "sentences": sentences,
            "file_name": "1.png", "no_target": found == [-1],
        }  # fmt: skip

    entries = [
        entry(1, [11], [sentence(1, "red square")]),
        entry(2, [11, 12], [sentence(2, "both figures")]),
        entry(3, [-1], [sentence(3, "green star"), sentence(4, "a dog")]),
    ]
    return write_json(folder / "grefs(unc).json", entries)


def write_reasonseg(folder: Path) -> Path:
    """A split: a long question with a region to ignore inside the target, and a short one."""
    folder.mkdir(parents=True, exist_ok=True)

    def shape(label: str, corners: list[list[float]]) -> dict:
        return {"label": label, "shape_type": "polygon", "points": corners}

    square = shape("target", [[8.2, 8.9], [31, 8], [31.7, 31], [8, 31]])
    hole = shape("ignore", [[12, 12], [15, 12], [15, 15], [12, 15]])
    remark = shape("flag", [[0, 0]])
    for name, text, is_sentence, shapes in (
        ("a", "Which figure has four corners?", True, [hole, square, remark]),
        ("b", "the figure that could serve as a box", False, [square]),
    ):
        picture().save(folder / f"{name}.jpg", quality=95)
        write_json(
            folder / f"{name}.json", {"text": [text], "is_sentence": is_sentence, "shapes": shapes}
        )
    return folder


def write_rec(folder: Path) -> Path:
    """Qwen-VL's JSON Lines."""
    write_pictures(folder / "pictures")
    lines = [
        {"image": f"data/coco/train2014/{number}.png", "width": WIDTH, "height": HEIGHT, "sent": "red square",
         "bbox": [8.0, 8.0, 32.0, 32.0]}
        for number in (1, 2)
    ]  # fmt: skip
    path = folder / "refcoco_val.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def write_panoptic(folder: Path) -> Path:
    """`panoptic_val.json` and `panoptic_val/1.png`; square and circle are things, the rest is stuff."""
    write_pictures(folder / "pictures")
    numbers = np.full((HEIGHT, WIDTH), 3 + 256 * 7 + 65536 * 9, dtype=np.int64)
    numbers[SQUARE], numbers[CIRCLE] = 1, 2
    numbers[:4] = 0  # unlabelled
    colours = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=2).astype(np.uint8)
    (folder / "panoptic_val").mkdir()
    Image.fromarray(colours).save(folder / "panoptic_val" / "1.png")
    segments = [(1, 10), (2, 20), (3 + 256 * 7 + 65536 * 9, 30)]
    content = {
        "images": [image_entry(1)],
        "annotations": [
            {
                "image_id": 1,
                "file_name": "1.png",
                "segments_info": [{"id": n, "category_id": kind, "iscrowd": 0} for n, kind in segments],
            }
        ],
        "categories": [
            {"id": 10, "name": "red square", "isthing": 1},
            {"id": 20, "name": "blue circle", "isthing": 1},
            {"id": 30, "name": "wall-other-merged", "isthing": 0},
        ],
    }
    return write_json(folder / "panoptic_val.json", content)


def write_maps(folder: Path) -> Path:
    """`maps/1.png` with square 1, circle 2, the rest 0 and the top four rows 255; `classes.txt`."""
    write_pictures(folder / "pictures")
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[SQUARE], labels[CIRCLE], labels[:4] = 1, 2, 255
    (folder / "maps").mkdir()
    Image.fromarray(labels).save(folder / "maps" / "1.png")
    (folder / "classes.txt").write_text("0: wall\n1: red square\n2: blue circle\n", encoding="utf-8")
    return folder / "maps"


def write_masks(folder: Path) -> Path:
    """A folder of masks."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in (("square", SQUARE), ("circle", CIRCLE)):
        Image.fromarray(mask).save(folder / f"{name}.png")
    return folder
