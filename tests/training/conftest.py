"""What the training tests share: a clock that ticks with the steps, small sizes, a processor."""

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from himtok_core.data.scenes import World, make_scene
from himtok_core.geometry import mask_to_rle
from himtok_core.lmm import HimtokForConditionalGeneration, HimtokProcessor, load_released
from himtok_core.mask_tokenizer import MaskTokenizer, MaskTokenizerConfig
from himtok_core.training import optimizers, run_folder
from himtok_core.training.branches import Branch
from himtok_core.training.mini import build_processor
from himtok_core.training.vision import vocabulary_texts

PARITY = Path(__file__).parents[1] / "data" / "parity"
FACTS = json.loads((PARITY / "training.json").read_text(encoding="utf-8"))

Loaded = tuple[HimtokForConditionalGeneration, HimtokProcessor]


class Killed(BaseException):
    """The process ends here, like a kill: nothing may catch it."""


class Pace:
    """Stands in for a recipe's `learning_rate`, which is asked once a step, before the step is taken.

    Every step takes a minute on the run folder's clock. `kill_at` ends the process in the middle of a step.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.steps: list[int] = []
        self.kill_at: int | None = None

    def learning_rate(self, step: int, progress: float, warmup: int) -> float:
        self.steps.append(step)
        self.now += 60
        if step == self.kill_at:
            raise Killed
        return optimizers.learning_rate(step, progress, warmup)

    def rules(self, recipe: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(recipe, "learning_rate", self.learning_rate)


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Pace:
    pace = Pace()
    monkeypatch.setattr(run_folder, "time", SimpleNamespace(monotonic=lambda: pace.now))
    return pace


def assert_same(first: object, second: object) -> None:
    """Two saved states hold exactly the same, whatever time they took."""
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first.keys() - {"seconds"}:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for a, b in zip(first, second, strict=True):
            assert_same(a, b)
    else:
        assert first == second


def load_state(folder: Path) -> dict:
    return torch.load(folder / "state.pt", weights_only=True)


def beginnings(branches: list[Branch], prefix: int) -> list[int]:
    """The place in its picture's row where each conversation begins; a row begins with a prefix so long."""
    ends: dict[int, int] = {}
    starts = []
    for branch in branches:
        starts.append(ends.get(branch.scene, prefix))
        ends[branch.scene] = starts[-1] + len(branch.ids)
    return starts


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture(scope="session")
def processor(world: World) -> HimtokProcessor:
    """himtok-mini's processor with a vocabulary from a few scenes."""
    return build_processor(vocabulary_texts(world, scenes=10))


@pytest.fixture(scope="module")
def released() -> Loaded:
    """The tiny checkpoint in the released format; tests of a file share it, and may train it."""
    return load_released(PARITY / "released_tiny")


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    """What the reference computes with it."""
    return {**load_file(PARITY / "lmm.safetensors"), **load_file(PARITY / "training.safetensors")}


def small_mask_config(**changes: int) -> MaskTokenizerConfig:
    """A mask tokenizer for masks of 32 pixels."""
    sizes = {
        "mask_size": 32, "patch_size": 8, "encoder_width": 32, "encoder_layers": 1, "encoder_heads": 2,
        "decoder_width": 32, "decoder_layers": 1, "decoder_heads": 2, "ffn_hidden_channels": 32,
        "ffn_out_channels": 16, "pixel_hidden_channels": 8, "pixel_channel_mult": (1, 1, 2, 2),
        "pixel_num_res_blocks": 1, "pixel_out_channels": 1, "group_norm_groups": 4,
    }  # fmt: skip
    return MaskTokenizerConfig(**sizes | changes)


@pytest.fixture(scope="session")
def mask_tokenizer() -> MaskTokenizer:
    """Untrained: its codes mean nothing, but they are codes."""
    torch.manual_seed(0)
    return MaskTokenizer(small_mask_config()).eval()


@pytest.fixture
def coco_folder(tmp_path: Path, world: World) -> Path:
    """Four drawn scenes as COCO stores photographs: masks.json and pictures beside it."""
    folder = tmp_path / "coco"
    folder.mkdir()
    images, annotations = [], []
    for number in range(4):
        scene = make_scene(number, world)
        scene.picture.save(folder / f"{number}.png")
        width, height = scene.size
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        for item in scene.objects:
            entry = {"image_id": number, "segmentation": mask_to_rle(item.mask), "iscrowd": 0}
            annotations.append({"id": len(annotations), **entry})
    text = json.dumps({"images": images, "annotations": annotations})
    (folder / "masks.json").write_text(text, encoding="utf-8")
    return folder
