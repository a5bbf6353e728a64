"""A few training lines with their pictures and masks, written to a folder."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

PLACEHOLDER = "<|mt_start|>" + "<|mt_0|>" * 32 + "<|mt_end|>"
SIZE = (60, 40)  # width, height


def write_picture(path: Path, seed: int, size: tuple[int, int] = SIZE) -> None:
    """Coloured noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_mask(path: Path, rows: int, size: tuple[int, int] = SIZE, level: int = 255) -> np.ndarray:
    """A rectangle of so many rows."""
    mask = np.zeros((size[1], size[0]), dtype=np.uint8)
    mask[4 : 4 + rows, 10:45] = level
    Image.fromarray(mask).save(path)
    return mask


def said(*texts: str) -> list[dict]:
    """Human and gpt in turns."""
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def write_lines(folder: Path, name: str, rows: list[dict | str]) -> dict:
    """Lines of one data set; its entry for the meta file."""
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / f"{name}.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return {"root": str(folder), "annotation": str(folder / f"{name}.jsonl")}


def write_toy_data(folder: Path) -> Path:
    """Two data sets, masks and plain text, and a line that cannot be used; the meta file."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(3):
        write_picture(folder / f"{number}.png", number)
        write_mask(folder / f"m{number}.png", 8 * (number + 1))
        texts = ("<image>\nSegment <ref>road</ref>.", f"The mask appears at {PLACEHOLDER}.")
        rows.append({"image": f"{number}.png", "mask": f"m{number}.png", "conversations": said(*texts)})
    rows.append({"image": "gone.png", "conversations": said("<image>\nWhat?", "A thing.")})
    meta = {
        "masks": {**write_lines(folder, "masks", rows), "data_augment": True},
        "text": write_lines(folder, "text", [{"conversations": said("Hi?", "Hello."[:n])} for n in (2, 6)]),
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder / "meta.json"
