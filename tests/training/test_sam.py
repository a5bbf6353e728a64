"""The recipe of the refiner: what learns, what is reported, and a run that goes on where it was killed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from himtok_core.data.world import World
from himtok_core.errors import CheckpointError, DataError
from himtok_core.mask_tokenizer import MaskTokenizer
from himtok_core.refine import RefinementSam, SamConfig, SamRefiner
from himtok_core.refine.loading import load_sam, save_sam
from himtok_core.training import sam
from himtok_core.training.sam import PixelHead, Settings, pixel_loss, refinement_loss, train
from himtok_core.training.sam_data import RefinementBatches
from himtok_core.training.sam_sources import SceneSource

from .conftest import Killed, Pace, assert_same, load_state

MINI = str(Path(__file__).parents[2] / "assets" / "himtok-mini")
SMALL = replace(
    SamConfig.mini(), image_size=32, width=32, depth=2, heads=2, window=2, global_layers=(1,), prompt_dim=32,
    decoder_heads=2, decoder_mlp=32, iou_hidden=32,
)  # fmt: skip
FEW = {"model": MINI, "steps": 6, "pictures": 2, "masks": 2, "scenes": 2, "score_every": 2}


@pytest.fixture
def paced(pace: Pace, monkeypatch: pytest.MonkeyPatch) -> Pace:
    pace.rules(sam, monkeypatch)
    return pace


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder of weights to finetune, of public SAM's kind."""
    torch.manual_seed(0)
    folder = tmp_path / "given"
    save_sam(RefinementSam(replace(SMALL, stretch=False, extra_masks=3)), folder)
    return folder


@pytest.mark.parametrize("kind", ["from nothing", "finetuned"])
def test_a_killed_run_goes_on_to_the_same_state(tmp_path: Path, paced: Pace, given: Path, kind: str) -> None:
    settings = Settings(**FEW, init=None if kind == "from nothing" else str(given))
    train(settings, tmp_path / "whole", config=SMALL)
    paced.kill_at = 5
    with pytest.raises(Killed):
        train(settings, tmp_path / "killed", config=SMALL)
    assert load_state(tmp_path / "killed")["step"] == 4
    paced.kill_at, paced.steps = None, []
    train(settings, tmp_path / "killed", config=SMALL)
    assert paced.steps == [4, 5]
    assert_same(load_state(tmp_path / "killed"), load_state(tmp_path / "whole"))


def test_minutes_stop_a_run_and_what_it_has_is_saved(tmp_path: Path, paced: Pace) -> None:
    train(Settings(**FEW), tmp_path, minutes=0.5, config=SMALL)
    assert load_state(tmp_path)["step"] == 1
    assert SamRefiner.from_pretrained(tmp_path / "model", "cpu").model.config == SMALL


def test_other_settings_need_another_folder(tmp_path: Path) -> None:
    train(Settings(**FEW | {"steps": 1}), tmp_path, config=SMALL)
    with pytest.raises(DataError, match="steps"):
        train(Settings(**FEW | {"steps": 2}), tmp_path, config=SMALL)


def test_finetuning_leaves_all_but_the_decoder_and_the_mask_convolutions(tmp_path: Path, given: Path) -> None:
    before = load_sam(given, "cpu").state_dict()
    after = train(Settings(**FEW | {"steps": 2}, init=str(given)), tmp_path / "run").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(name.startswith(("mask_decoder.", "prompt_encoder.mask_downscaling.")) for name in changed)
    for part in ("mask_decoder.transformer.", "mask_decoder.iou_prediction_head.", "prompt_encoder.mask_"):
        assert any(name.startswith(part) for name in changed), part


def test_from_nothing_everything_learns(tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = Settings(**FEW | {"steps": 3}, reference_prompts=0.0)
    train(settings, tmp_path / "one", config=SMALL)
    state = load_state(tmp_path / "one")["learning"]
    train(replace(settings, steps=4), tmp_path / "two", config=SMALL)
    later = load_state(tmp_path / "two")["learning"]
    still = {name for name in state if torch.equal(state[name], later[name])}
    # Positions are drawn once, and the two kinds of padding are never asked for.
    assert {name.split(".")[2] for name in still} <= {
        "pe_layer", "not_a_point_embed", "no_mask_embed", "point_embeddings",
    }  # fmt: skip


def test_the_report_compares_before_and_after(tmp_path: Path, given: Path) -> None:
    train(Settings(**FEW | {"steps": 2}, init=str(given)), tmp_path / "run")
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert report.keys() == {"unrefined", "initial", "refined"}
    for row in report.values():
        for name in ("iou@8", "boundary@8", "iou@32", "boundary@32"):
            assert 0 <= row[name] <= 1
    assert report["unrefined"]["iou@32"] > report["unrefined"]["iou@8"] > 0.5
    assert report["refined"]["samples"] == 4


def test_weights_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "sam.pth").write_text("nothing", encoding="utf-8")
    with pytest.raises(CheckpointError, match="sam.pth"):
        train(Settings(**FEW, init=str(tmp_path / "sam.pth")), tmp_path / "run")


@pytest.mark.parametrize("kind", ["mask", "reference"])
def test_a_batch_can_be_learned(world: World, mask_tokenizer: MaskTokenizer, kind: str) -> None:
    torch.manual_seed(0)
    refiner, head = SamRefiner(RefinementSam(SMALL)), PixelHead(SMALL.prompt_dim)
    batch = RefinementBatches(SceneSource(world), mask_tokenizer, SMALL, pictures=2, masks=2, seed=0)(0)
    optimizer = torch.optim.AdamW([*refiner.model.parameters(), *head.parameters()], lr=3e-3)
    losses = []
    for _ in range(60):
        loss = refinement_loss(refiner, head, batch, Settings(**FEW), kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


def test_pixel_loss_knows_where_objects_meet() -> None:
    """Right logits for two objects side by side cost nothing, wrong ones a lot."""
    owners = torch.zeros(1, 8, 8, dtype=torch.int64)
    owners[:, 2:6, 1:4], owners[:, 2:6, 4:7] = 1, 2
    right = torch.full((1, 2, 8, 8), -20.0)
    right[:, 0, 2:6, 1:7] = 20
    right[:, 1, 1:7, 0:8] = 20
    right[:, 1, 3:5, 2] = right[:, 1, 3:5, 5] = -20  # the middles, with their own kind all around
    assert pixel_loss(right, owners) < 1e-4
    assert pixel_loss(-right, owners) > 10


def test_photographs_of_coco(tmp_path: Path, coco_folder: Path, given: Path) -> None:
    masks = str(coco_folder / "masks.json")
    settings = Settings(**FEW | {"steps": 1, "scenes": 1}, init=str(given), coco=masks)
    with pytest.raises(DataError, match="--photographs"):
        train(settings, tmp_path / "no_pictures")
    train(replace(settings, photographs=str(coco_folder)), tmp_path / "run")
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_the_command_prints_the_last_scores(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--steps", "1", "--pictures", "1", "--masks", "1", "--scenes", "1", "--score-every", "1"]
    assert sam.main(["--out", str(tmp_path), "--model", MINI, *arguments]) == 0
    assert {"iou@8", "iou@32", "samples"} <= json.loads(capsys.readouterr().out).keys()
