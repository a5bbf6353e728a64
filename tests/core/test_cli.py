import json
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from himtok_core import SamRefiner, cli, load, refine_reply
from himtok_core.geometry import rle_to_mask
from himtok_core.markup import mask_run
from himtok_core.refine import RefinementSam, SamConfig
from himtok_core.refine.loading import save_sam
from tests.conftest import FULL_RUN, example_picture


@pytest.fixture
def files(tmp_path):
    """A picture, a mask and a text file."""
    example_picture().save(tmp_path / "scene.png")
    mask = np.zeros((30, 50), dtype=np.uint8)
    mask[5:25, 10:40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(mask // 255).save(tmp_path / "ones.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


@pytest.fixture
def small_sam(tmp_path):
    """A folder with a small SAM that has learned nothing."""
    torch.manual_seed(0)
    folder = tmp_path / "small-sam"
    save_sam(RefinementSam(SamConfig.mini()), folder)
    return folder


def run(capsys, *arguments) -> tuple[int, dict | None, str]:
    """Exit code, the JSON on standard output, standard error."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        code = stopped.code
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


def test_segment(capsys, files, tiny_folder):
    out = files / "made" / "out"
    code, told, err = run(
        capsys, "segment", files / "scene.png", "cat", "--out", out, "--model", tiny_folder, "--device", "cpu"
    )
    assert code == 0 and "tiny" in err
    assert told["text"] == f"The mask appears at {FULL_RUN}."
    assert told["size"] == [60, 40] and told["problems"] == []
    (item,) = told["objects"]
    assert item["label"] == "cat" and len(item["tokens"]) == 32
    overlay = np.asarray(Image.open(told["overlay"]))
    assert overlay.shape == (40, 60, 3)
    mask = np.asarray(Image.open(item["mask"])) > 0
    assert mask.shape == (40, 60) and item["area"] == mask.sum() > 0
    assert (rle_to_mask(item["rle"]) == mask).all()
    changed = (overlay != np.asarray(example_picture())).any(axis=2)
    assert changed[mask].mean() > 0.95 and not changed[~mask].any()


def test_segment_with_a_number_of_tokens(capsys, files, tiny_folder):
    arguments = [
        "segment",
        files / "scene.png",
        "cat",
        "--out",
        files,
        "--model",
        tiny_folder,
        "--device",
        "cpu",
    ]
    code, told, _ = run(capsys, *arguments, "--mask-tokens", 3)
    assert code == 0 and len(told["objects"][0]["tokens"]) == 3


def test_segment_refined(capsys, files, tiny_folder, small_sam):
    """The masks are the refiner's, the tokens stay the model's; without the flag nothing is refined."""
    arguments = ["segment", files / "scene.png", "cat", "--out", files / "out", "--model", tiny_folder]
    code, plain, _ = run(capsys, *arguments, "--device", "cpu")
    assert code == 0 and plain["refinement"] is None
    code, told, _ = run(capsys, *arguments, "--device", "cpu", "--refine", small_sam)
    assert code == 0
    assert told["refinement"]["model"] == small_sam.name and told["refinement"]["seconds"] > 0
    assert told["objects"][0]["tokens"] == plain["objects"][0]["tokens"]
    refiner = SamRefiner.from_pretrained(small_sam, "cpu")
    reply = load(tiny_folder, device="cpu").start(files / "scene.png").ask(told["question"])
    wanted = refine_reply(refiner, files / "scene.png", reply).objects[0].mask
    assert (rle_to_mask(told["objects"][0]["rle"]) == wanted).all()
    assert told["objects"][0]["rle"] != plain["objects"][0]["rle"]


def test_segment_with_a_refiner_that_is_none(capsys, files, tiny_folder):
    code, _, err = run(
        capsys, "segment", files / "scene.png", "cat", "--out", files, "--model", tiny_folder,
        "--device", "cpu", "--refine", files / "notes.txt",
    )  # fmt: skip
    assert code == 2 and "notes.txt cannot be read" in err


def test_a_mask_to_tokens_and_back(capsys, files, tiny_folder, monkeypatch):
    monkeypatch.setenv("HIMTOK_MODEL", str(tiny_folder))
    code, told, _ = run(capsys, "tokenize", files / "mask.png", "--device", "cpu")
    assert code == 0 and len(told["tokens"]) == 32 and told["size"] == [50, 30]
    assert told["text"] == mask_run(told["tokens"])
    _, ones, _ = run(capsys, "tokenize", files / "ones.png", "--device", "cpu")
    assert ones == told  # 0 and 1 are as good as 0 and 255
    written = {}
    for name, tokens in {
        "text": [told["text"]],
        "words": told["tokens"],
        "list": [str(told["tokens"])],
    }.items():
        out = files / "new" / f"{name}.png"
        code, back, _ = run(capsys, "detokenize", *tokens, "--out", out, "--size", "50x30", "--device", "cpu")
        assert code == 0 and back["tokens"] == told["tokens"] and back["size"] == [50, 30]
        written[name] = np.asarray(Image.open(out))
        assert (rle_to_mask(back["rle"]) == (written[name] > 0)).all()
    assert (written["text"] == written["words"]).all() and (written["text"] == written["list"]).all()


def test_convert(capsys, files, tiny_folder):
    from himtok_core import load
    from tests.generation.test_loading import RELEASED

    code, told, _ = run(capsys, "convert", RELEASED, files / "converted")
    assert code == 0 and told["target"] == str(files / "converted")
    assert load(files / "converted", device="cpu").name == "converted"
    code, _, err = run(capsys, "convert", files, files / "other")
    assert code == 2 and "config.json" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["segment", "nowhere.png", "cat", "--out", "x"], "nowhere.png"),
        (["segment", "{files}/notes.txt", "cat", "--out", "x"], "picture"),
        (["segment", "{files}/scene.png", "cat"], "--out"),
        (["segment", "{files}/scene.png", "cat", "--out", "x", "--mask-tokens", "33"], "1 to 32"),
        (["segment", "{files}/scene.png", "cat", "--out", "x", "--model", "no-model"], "no-model"),
        (["segment", "{files}/scene.png", "cat", "--out", "x", "--model", "{tiny}", "--dtype", "f8"], "f8"),
        (
            ["segment", "{files}/scene.png", "cat", "--out", "{files}/notes.txt", "--model", "{tiny}"],
            "notes.txt",
        ),
        (["tokenize", "nowhere.png"], "nowhere.png"),
        (["detokenize", "1", "two", "--out", "x.png"], "two"),
        (["detokenize", "1024", "--out", "x.png"], "1023"),
        (["detokenize", "<|mt_start|><|mt_1|>", "--out", "x.png"], "cut off"),
        (["detokenize", "1", "--out", "x.png", "--size", "0x5"], "640x480"),
        (["frobnicate"], "frobnicate"),
        (["train", "cooking"], "cooking"),
        ([], "command"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, files, tiny_folder, arguments, words):
    code, told, err = run(capsys, *(text.format(files=files, tiny=tiny_folder) for text in arguments))
    assert code == 2 and told is None
    *progress, complaint = err.strip().splitlines()
    assert complaint.startswith("error: ") and words in complaint
    assert not any(line.startswith(("error", "Traceback", "usage")) for line in progress)


def test_a_missing_default_model_is_named(capsys, files, monkeypatch):
    monkeypatch.delenv("HIMTOK_MODEL", raising=False)
    monkeypatch.setattr(cli, "__file__", str(files / "package" / "cli.py"))
    code, _, err = run(capsys, "tokenize", files / "mask.png")
    assert code == 2 and "--model or HIMTOK_MODEL" in err


@pytest.mark.parametrize(
    ("command", "module"),
    [
        (["scenes"], "data.export"),
        (["train", "tokenizer"], "training.tokenizer"),
        (["train", "scene-lmm"], "training.scene_lmm"),
        (["evaluate"], "evaluation"),
    ],
)
def test_offline_work_is_passed_on(monkeypatch, command, module):
    passed = []
    stand_in = types.SimpleNamespace(main=lambda argv: passed.append(argv) or 3)
    monkeypatch.setitem(sys.modules, f"himtok_core.{module}", stand_in)
    monkeypatch.setattr(cli, "import_module", lambda name, package: sys.modules[package + name])
    assert cli.main([*command, "--seed", "1"]) == 3
    assert passed == [["--seed", "1"]]


def test_help_lists_every_command_without_loading_torch():
    code = (
        "import sys; from himtok_core.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for command in ("segment", "tokenize", "detokenize", "convert", "scenes", "train", "evaluate"):
        assert command in done.stdout
