"""A folder or a hub id -> model and processor on a device.

Knows where checkpoints lie, which of the two formats one has, and which device and number type suit. The
released format itself is `lmm.released_format`'s knowledge.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    StrictDataclassError,
)
from safetensors import SafetensorError
from transformers import BitsAndBytesConfig

from ..errors import CheckpointError, HimtokError
from ..lmm import HimtokConfig, HimtokForConditionalGeneration, HimtokProcessor
from ..lmm.modeling import NOT_QUANTIZED
from ..lmm.released_format import is_released_format, load_released
from .memory import readable_memory_errors

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
QUANTIZATIONS = ("8bit", "4bit")

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "*.safetensors"]


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to run. concepts: the names it was trained on, () if it brings no list."""

    name: str
    model: HimtokForConditionalGeneration
    processor: HimtokProcessor
    concepts: tuple[dict, ...]


def load_checkpoint(
    model: str | Path,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    quantization: str | None = None,
    device_map: str | dict | None = None,
    max_tiles: int | None = None,
) -> Loaded:
    """Loads either format; the arguments are those of `chat.load`."""
    if device is not None and device_map is not None:
        raise HimtokError("A device and a device map exclude each other: leave one of them out.")
    if quantization is not None and quantization not in QUANTIZATIONS:
        raise HimtokError(f"quantization must be one of {', '.join(QUANTIZATIONS)}, not {quantization!r}.")
    if max_tiles is not None and max_tiles < 1:
        raise HimtokError(f"A picture needs at least 1 tile, max_tiles is {max_tiles}.")
    place = _device(device)
    numbers = _dtype(dtype, place)
    folder = find_checkpoint(model)
    options = {"dtype": numbers, "device_map": device_map or {"": place}}
    if quantization is not None:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=quantization == "8bit",
            load_in_4bit=quantization == "4bit",
            bnb_4bit_compute_dtype=numbers,
            bnb_4bit_quant_type="nf4",
            llm_int8_skip_modules=NOT_QUANTIZED,
        )
    try:
        with readable_memory_errors(f"loading {folder.name}"):
            kind = _model_type(folder)
            if kind == HimtokConfig.model_type:
                network, processor = _load_own(folder, options)
            elif is_released_format(folder):
                network, processor = load_released(folder, **options)
            else:
                raise CheckpointError(
                    f"{folder} holds a model of type {kind!r}. Only himtok checkpoints and the released "
                    "InternVL2.5-HiMTok format can be loaded."
                )
    except (OSError, ValueError, KeyError, SafetensorError, StrictDataclassError) as error:
        raise CheckpointError(f"The model in {folder} cannot be loaded: {error}") from error
    if max_tiles is not None:
        processor.image_processor.max_tiles = max_tiles
    name = folder.resolve().name if Path(model).expanduser().is_dir() else str(model)
    return Loaded(name, network.eval(), processor, _concepts(folder))


def find_checkpoint(model: str | Path) -> Path:
    """The folder of a checkpoint: the given one, or a copy of the hub's.

    Raises CheckpointError if it is no folder with a config.json and no hub id that can be fetched.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if folder.exists():
            raise CheckpointError(f"{model} is a file; the folder that holds config.json is wanted.")
        if not _HUB_ID.fullmatch(str(model)):
            raise CheckpointError(f"There is no folder {model}, and it is no hub id (owner/name) either.")
        try:
            folder = Path(snapshot_download(str(model), allow_patterns=_FILES))
            if not any(folder.glob("*.safetensors")):
                folder = Path(snapshot_download(str(model), allow_patterns=[*_FILES, "*.bin"]))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(
                f"There is no folder {model}, and the hub did not give a model of that name: {reason}"
            ) from error
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds no config.json, so it is not a model folder.")
    return folder


def _model_type(folder: Path) -> str | None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder / 'config.json'} must be a JSON object.")
    return config.get("model_type")


def _load_own(folder: Path, options: dict) -> tuple[HimtokForConditionalGeneration, HimtokProcessor]:
    network, report = HimtokForConditionalGeneration.from_pretrained(
        folder,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are in the report, and refused below by their names
        **options,
    )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[what]:
            named = ", ".join(sorted(map(str, report[what]))[:5])
            raise CheckpointError(f"The weights in {folder} do not fit, {what.replace('_', ' ')}: {named}.")
    return network, HimtokProcessor.from_pretrained(folder)


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        found = torch.accelerator.current_accelerator(check_available=True)
        return found if found is not None else torch.device("cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise HimtokError(f"{device!r} is no device: use cpu, cuda, cuda:1 or mps.") from error
    if place.type == "cpu":
        return place
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None or found.type != place.type:
        raise HimtokError(f"There is no {place.type} device here: use {found.type if found else 'cpu'}.")
    if place.index is not None and place.index >= torch.accelerator.device_count():
        raise HimtokError(
            f"There is no {place}: this machine has {torch.accelerator.device_count()} of them."
        )
    return place


def _dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        # On processors bfloat16 products can be hundreds of times slower than float32 ones.
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    numbers = DTYPES.get(dtype, None) if isinstance(dtype, str) else dtype
    if numbers not in DTYPES.values():
        raise HimtokError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}.")
    return numbers


def _concepts(folder: Path) -> tuple[dict, ...]:
    path = folder / "concepts.json"
    if not path.is_file():
        return ()
    try:
        concepts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(concepts, list) or not all(
        isinstance(item, dict) and "name" in item for item in concepts
    ):
        raise CheckpointError(f'{path} must be a list of objects with a "name".')
    return tuple(concepts)
