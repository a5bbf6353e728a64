"""The paper's stages: a resumed run is the same run, on one process or two; what comes out can be loaded."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

import himtok_core
from himtok_core.errors import DataError, HimtokError
from himtok_core.training import lmm
from himtok_core.training.lmm import STAGES, Settings, train
from tests.conftest import example_picture, tiny_parts
from tests.training.toy_conversations import said, write_lines, write_toy_data

from .conftest import Killed, Pace

ROOT = Path(__file__).parents[2]
MINI = ROOT / "assets" / "himtok-mini"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights, in float32."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model, processor = tiny_parts()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def small(tiny: Path, tmp_path: Path) -> Settings:
    """Three steps of four samples, a state after each second."""
    meta = write_toy_data(tmp_path / "data")
    return Settings(
        stage="2", model=str(tiny), data=str(meta), steps=3, batch=2, total_batch=4, lr=1e-3, save_every=2
    )


def rows(folder: Path) -> list[dict]:
    logged = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in logged]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


# ---- the run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage, lora", [("2", None), ("3", None), ("finetune", None), ("finetune", 2)])
def test_killed_and_resumed_is_the_same_run(
    small: Settings,
    tmp_path: Path,
    pace: Pace,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    lora: int | None,
) -> None:
    pace.rules(lmm, monkeypatch)
    settings = replace(small, stage=stage, lora=lora, gradient_checkpointing=lora is not None)
    train(settings, tmp_path / "whole")
    train(settings, tmp_path / "parts", minutes=0.5)
    assert [path.name for path in (tmp_path / "parts").glob("state-*")] == ["state-00000001"]
    pace.kill_at = 2
    with pytest.raises(Killed):
        train(settings, tmp_path / "parts")
    (tmp_path / "parts" / "state.tmp").mkdir()  # as if killed while saving once more
    (tmp_path / "parts" / "state.tmp" / "model.safetensors").write_bytes(b"half")
    pace.kill_at = None
    train(settings, tmp_path / "parts")
    assert pace.steps == [0, 1, 2] + [0] + [1, 2] + [2]

    whole, parts = rows(tmp_path / "whole"), rows(tmp_path / "parts")
    assert [row["step"] for row in parts] == [1, 2, 3]
    assert parts == whole
    assert len({row["text"] for row in whole}) == 3
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    before = load_file(Path(settings.model) / "model.safetensors")
    moved = {name for name in first if not torch.equal(first[name], before[name])}
    if lora is not None:
        assert moved and all("_proj.weight" in name and "language_model" in name for name in moved)
    else:
        assert any("vision_tower" in name for name in moved) and "lm_head.weight" in moved
        masks = {name.split(".")[1] for name in moved if name.startswith("mask_tokenizer")}
        assert masks == ({"decoder", "pixel_decoder"} if stage == "2" else set())
    assert all((row["mask"] > 0) == (stage == "2") for row in whole)


def test_a_step_is_the_same_however_it_is_divided(small: Settings, tmp_path: Path) -> None:
    """One batch of four, or four batches of one: every token and every mask counts the same."""
    train(replace(small, batch=4), tmp_path / "whole")
    train(replace(small, batch=1), tmp_path / "parts")
    for one, other in zip(rows(tmp_path / "whole"), rows(tmp_path / "parts"), strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def test_two_processes_are_on_the_same_trajectory(small: Settings, tmp_path: Path) -> None:
    """For real: two processes that share gradients, one of them also reading a sample that is not there."""
    train(replace(small, batch=1, steps=2), tmp_path / "alone")
    flags = {"stage": 2, "model": small.model, "data": small.data, "steps": 2, "total-batch": 4, "lr": 1e-3}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    command += ["-m", "himtok_core", "train", "lmm", "--out", str(tmp_path / "together")]
    for name, value in flags.items():
        command += [f"--{name}", str(value)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["step"] == 2  # one line: of two processes one speaks
    for one, other in zip(rows(tmp_path / "alone"), rows(tmp_path / "together"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
        assert one["samples"] == other["samples"]
    assert (tmp_path / "together" / "state-00000002" / "random_states_1.pkl").exists()


def test_an_epoch_of_the_mixture_is_the_default(small: Settings, tmp_path: Path) -> None:
    """Six samples: two steps of four, the second reaching into the next epoch."""
    train(replace(small, steps=None, stage="3"), tmp_path / "run")
    assert [row["samples"] for row in rows(tmp_path / "run")] == [4, 8]


def test_reference_losses_are_another_run(small: Settings, tmp_path: Path) -> None:
    train(replace(small, steps=1), tmp_path / "supplement")
    train(replace(small, steps=1, protocol="reference"), tmp_path / "reference")
    (first,), (second,) = rows(tmp_path / "supplement"), rows(tmp_path / "reference")
    assert first["mask"] > 0 and second["mask"] > 0 and first["mask"] != second["mask"]


# ---- what comes out --------------------------------------------------------------------------------------


def test_the_shipped_model_can_be_trained_and_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line; its pictures, masks and tokenizer are of other sizes than the released ones."""
    meta = write_toy_data(tmp_path / "data")
    flags = ["--stage", "2", "--model", str(MINI), "--data", str(meta), "--out", str(tmp_path / "run")]
    assert lmm.main([*flags, "--steps", "1", "--total-batch", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 2
    chat = himtok_core.load(tmp_path / "run" / "model", device="cpu")
    assert chat.start(example_picture()).ask("Segment <ref>tree</ref>.", max_new_tokens=4).text
    assert chat.concepts == himtok_core.load(MINI, device="cpu").concepts


def test_an_adapter_comes_alone_and_merged(small: Settings, tmp_path: Path) -> None:
    from peft import PeftModel

    train(replace(small, stage="finetune", lora=4, steps=2), tmp_path / "run")
    merged = himtok_core.load(tmp_path / "run" / "model", device="cpu").model
    chat = himtok_core.load(small.model, device="cpu")
    ids = chat.processor.tokenizer("Segment <ref>road</ref>.", return_tensors="pt")
    with torch.no_grad():
        before = chat.model(**ids).logits
        adapted = PeftModel.from_pretrained(chat.model, tmp_path / "run" / "adapter").eval()
        after = adapted(**ids).logits
        assert (before - after).abs().max() > 1e-4
        torch.testing.assert_close(merged(**ids).logits, after, rtol=1e-4, atol=1e-4)


@pytest.fixture
def any_precision() -> Iterator[None]:
    """Accelerate has one precision for a whole process, unless it is made to forget it."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("any_precision")
def test_mixed_precision_is_saved_in_bfloat16(small: Settings, tmp_path: Path) -> None:
    train(replace(small, steps=1, mixed_precision="bf16"), tmp_path / "run")
    numbers = [tensor for tensor in weights(tmp_path / "run").values() if tensor.is_floating_point()]
    assert {tensor.dtype for tensor in numbers} == {torch.bfloat16}
    assert himtok_core.load(tmp_path / "run" / "model", device="cpu").model.dtype == torch.float32


# ---- what is refused -------------------------------------------------------------------------------------


def test_bad_samples_are_named_and_replaced(small: Settings, tmp_path: Path) -> None:
    train(replace(small, stage="3", steps=2), tmp_path / "run")
    (line,) = (tmp_path / "run" / "left_out-0.txt").read_text().splitlines()
    assert line.startswith(str(tmp_path / "data" / "masks.jsonl") + ":4: ") and "gone.png" in line
    assert rows(tmp_path / "run")[-1]["left_out"] == 1
    with pytest.raises(DataError, match="masks.jsonl:4: "):
        train(replace(small, stage="3", steps=2, bad_data="fail"), tmp_path / "strict")


def test_a_data_set_without_a_usable_sample(small: Settings, tmp_path: Path) -> None:
    row = {"image": "gone.png", "conversations": said("<image>\nWhat?", "A thing.")}
    meta = {"bad": write_lines(tmp_path, "bad", [row, "no JSON"])}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match="no sample of .*bad.jsonl can be used"):
        train(replace(small, data=str(tmp_path / "meta.json")), tmp_path / "run")


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"batch": 3}, "4 samples does not divide into batches of 3"),
        ({"batch": 8}, "does not divide"),
        ({"steps": 0}, "--steps must be above 0"),
        ({"lora": -1}, "--lora must be above 0"),
        ({"lr": 0.0}, "--lr must be above 0"),
        ({"data": "nothing.json"}, "nothing.json cannot be read"),
        ({"model": "nowhere"}, "There is no folder nowhere"),
    ],
)
def test_settings_that_cannot_be(small: Settings, tmp_path: Path, changes: dict, complaint: str) -> None:
    with pytest.raises(HimtokError, match=complaint):
        train(replace(small, **changes), tmp_path / "run")


def test_a_folder_of_another_run_is_refused(small: Settings, tmp_path: Path) -> None:
    train(replace(small, stage="3", steps=1), tmp_path / "run")
    with pytest.raises(DataError, match=r"other settings \(seed\)"):
        train(replace(small, stage="3", steps=1, seed=1), tmp_path / "run")


def test_lora_needs_peft(small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(HimtokError, match="pip install peft"):
        train(replace(small, lora=2), tmp_path / "run")


# ---- what is shipped -------------------------------------------------------------------------------------


def test_learning_rates_of_the_supplement() -> None:
    assert {name: stage.lr for name, stage in STAGES.items()} == {"2": 4e-5, "3": 2e-5, "finetune": 8e-6}
    factors = [lmm.learning_rate(step, 100, 3) for step in range(100)]
    assert factors[:4] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert factors[2:] == sorted(factors[2:], reverse=True) and factors[-1] < 1e-3


@pytest.mark.parametrize("name", ["fsdp", "deepspeed"])
def test_accelerate_reads_the_shipped_configurations(name: str) -> None:
    path = ROOT / "himtok_core" / "training" / "accelerate" / f"{name}.yaml"
    read = ClusterConfig.from_yaml_file(path)
    assert read.distributed_type.value == name.upper()
    if name == "deepspeed":
        zero = json.loads((ROOT / read.deepspeed_config["deepspeed_config_file"]).read_text())
        assert zero["zero_optimization"]["stage"] == 2 and zero["gradient_clipping"] == 1.0
    else:
        assert read.fsdp_config["fsdp_version"] == 2 and read.mixed_precision == "bf16"
