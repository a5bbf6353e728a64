"""A file, a folder or a hub id -> a RefinementSam on a device.

Knows which kinds of weights there are and how to tell them apart. Files are read whole and strictly, and
never run any code.
"""

import json
import pickle
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import CheckpointError, HimtokError
from .configuration import CONFIG_NAME, MODEL_TYPE, SamConfig
from .modeling import PIXEL_MEAN, PIXEL_STD, RefinementSam

WEIGHTS_NAME = "model.safetensors"  # beside our own config.json
# What public SAM and the released model's repository call their files.
FILES = ("sam.pth", "sam.safetensors", "sam_vit_*.pth", "sam_vit_*.safetensors")
PUBLIC_ONLY = (
    "prompt_encoder.mask_downscaling.",
    "prompt_encoder.no_mask_embed.",
    "prompt_encoder.not_a_point_embed.",
    "prompt_encoder.point_embeddings.2.",
    "prompt_encoder.point_embeddings.3.",
)
_WIDTH = "image_encoder.pos_embed"
_PUBLIC = "prompt_encoder.mask_downscaling.0.weight"
_REFERENCE = "prompt_encoder.mask_downscaling2.0.weight"

Tensors = dict[str, torch.Tensor]


def load_sam(name_or_path: str | Path, device: str | torch.device | None = None) -> RefinementSam:
    """Loads any of the three kinds of weights in float32; arguments as in `SamRefiner.from_pretrained`."""
    place = _device(device)
    path = _find(name_or_path)
    if path.is_dir():
        config, path = SamConfig.load(path / CONFIG_NAME), path / WEIGHTS_NAME
        tensors = read(path)
    else:
        tensors = read(path)
        config = recognised(tensors, path)
    try:
        with torch.device("meta"):
            model = RefinementSam(config)
    except (AssertionError, RuntimeError, ValueError, ZeroDivisionError) as error:
        where = path.parent / CONFIG_NAME
        raise CheckpointError(f"{where} has sizes that do not go together: {error}") from error
    if config.reference:  # finetuned from public SAM, whose parts may have stayed in the file
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(PUBLIC_ONLY)}
    check_shapes(tensors, model, path)
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    # No file holds these two, so building without memory left them without values.
    model.pixel_mean, model.pixel_std = (torch.tensor(v).view(-1, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    return model.eval().to(place)


def save_sam(model: RefinementSam, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes our own kind of folder: config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save(folder)
    tensors = {name: tensor.to(dtype).contiguous().cpu() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS_NAME)


def read(path: Path) -> Tensors:
    """The tensors of a .safetensors file, or of any other file as a pickle that may hold nothing else.

    Raises:
        CheckpointError: if it cannot be read or holds something else than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, SafetensorError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path} cannot be read as a file of weights: {reason}") from error
    for name in ("model", "state_dict"):  # training scripts put the tensors under one of these names
        if isinstance(tensors, dict) and isinstance(tensors.get(name), dict):
            tensors = tensors[name]
    if not isinstance(tensors, dict) or not all(torch.is_tensor(value) for value in tensors.values()):
        raise CheckpointError(f"{path} must hold named tensors, as state_dict() gives them.")
    return tensors


def recognised(tensors: Tensors, path: Path) -> SamConfig:
    """Which preset a file of weights without a config is, by its names and the width of its image encoder.

    Raises:
        CheckpointError: if it is none of them.
    """
    if _WIDTH not in tensors or not (_PUBLIC in tensors or _REFERENCE in tensors):
        missing = _WIDTH if _WIDTH not in tensors else f"{_PUBLIC} or {_REFERENCE}"
        raise CheckpointError(f"{path} is no SAM: it has no {missing}.")
    width = tensors[_WIDTH].shape[-1]
    if _REFERENCE in tensors:
        presets = [SamConfig.reference_vit_l()]
    else:
        presets = [SamConfig.vit_b(), SamConfig.vit_l(), SamConfig.vit_h()]
    for config in presets:
        if config.width == width:
            return config
    known = ", ".join(str(config.width) for config in presets)
    raise CheckpointError(
        f"{path} is a SAM of unknown size: {_WIDTH} has {width} channels, not {known}. "
        f"Other sizes need a folder with {CONFIG_NAME} and {WEIGHTS_NAME}."
    )


def check_shapes(tensors: Tensors, model: RefinementSam, path: Path) -> None:
    """Compares a file with the model that it is for.

    Raises:
        CheckpointError: naming what is missing, left over, or of another shape.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} has no place in the model" for name in tensors if name not in expected]
    problems += [
        f"{name} has shape {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError(f"The weights in {path} do not fit: {'; '.join(problems[:5])}{more}.")


def _find(name_or_path: str | Path) -> Path:
    """-> a file of weights, or a folder of our own kind."""
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        path = _fetched(str(name_or_path))
    if _is_ours(path):
        return path
    found = sorted(file for pattern in FILES for file in path.rglob(pattern))
    if len(found) != 1:
        what = f"several files ({', '.join(file.name for file in found)}): name one" if found else "none"
        raise CheckpointError(f"{name_or_path} should hold one SAM, {', '.join(FILES)}, but it holds {what}.")
    return found[0]


def _fetched(hub_id: str) -> Path:
    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=[CONFIG_NAME, *FILES]))
        if _is_ours(folder):
            folder = Path(snapshot_download(hub_id, allow_patterns=[CONFIG_NAME, WEIGHTS_NAME]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"There is no file or folder {hub_id}, and the hub did not give a SAM of that name: {reason}"
        ) from error
    return folder


def _is_ours(folder: Path) -> bool:
    config = folder / CONFIG_NAME
    if not config.is_file():
        return False
    try:
        entries = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(entries, dict) and entries.get("model_type") == MODEL_TYPE


def _device(device: str | torch.device | None) -> torch.device:
    found = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        return found or torch.device("cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise HimtokError(f"{device!r} is no device: use cpu, cuda, cuda:1 or mps.") from error
    if place.type != "cpu" and (found is None or found.type != place.type):
        raise HimtokError(f"There is no {place.type} device here: use {found.type if found else 'cpu'}.")
    return place
