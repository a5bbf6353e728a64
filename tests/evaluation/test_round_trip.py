"""The mask tokenizer's round trip over a folder of masks and over a COCO file."""

import json
from pathlib import Path

import numpy as np
import torch

from himtok_core import cli, geometry, load
from himtok_core.evaluation import metrics
from tests.evaluation.datasets import CIRCLE, SQUARE, write_json, write_masks, write_refcoco

MINI = str(Path(__file__).parents[2] / "assets" / "himtok-mini")


def run(data: Path, out: Path) -> dict:
    words = ["--data", str(data), "--out", str(out), "--model", MINI, "--device", "cpu"]
    assert cli.main(["evaluate", "tokenizer", *words]) == 0
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def test_a_folder_of_masks(tmp_path: Path) -> None:
    result = run(write_masks(tmp_path / "masks"), tmp_path / "out")
    scores = result["scores"]
    assert list(scores["mean_iou"]) == ["1", "2", "4", "8", "16", "32"] and result["scored"] == 2
    assert scores["mean_iou"]["32"] > 0.85 > scores["mean_iou"]["1"]
    tokenizer = load(MINI, device="cpu").mask_tokenizer
    ious, tokens = [], []
    for mask in (CIRCLE, SQUARE):
        stretched = geometry.stretch_mask(mask, tokenizer.config.mask_size)
        code = tokenizer.encode(torch.from_numpy(stretched)[None])
        drawn = tokenizer.decode(code[:, :8])[0].float().numpy()
        ious.append(geometry.mask_iou(geometry.mask_from_probability(drawn, (96, 64)), mask))
        tokens += code[0].tolist()
    assert abs(scores["mean_iou"]["8"] - np.mean(ious)) < 0.005
    assert scores["codes_used"] == len(set(tokens)) and scores["codebook_size"] == 1024
    assert scores["perplexity"] == metrics.perplexity(np.bincount(tokens, minlength=1024))


def test_a_coco_file(tmp_path: Path) -> None:
    write_refcoco(tmp_path)
    content = json.loads((tmp_path / "instances.json").read_text(encoding="utf-8"))
    content["annotations"][2]["image_id"] = 9
    content["annotations"].append(
        {"id": 31, "image_id": 1, "segmentation": {"size": [3, 3], "counts": [9]}}
    )
    result = run(write_json(tmp_path / "instances.json", content), tmp_path / "out")
    assert result["scored"] == 2 and len(result["problems"]) == 2
    assert result["problems"][0] == "instances.json: annotation 21: its picture is not in the file"
    assert result["problems"][1].startswith("instances.json: annotation 31: the mask is 3 x 3 pixels")
    assert "data:image/jpeg" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
