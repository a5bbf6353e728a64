"""The mask tokenizer as the paper's authors store it: its sizes, and the stand-alone file `himtok.pth`.

Knows both files and what in them is not the mask tokenizer. The whole released model, in which the mask
tokenizer is a part, is `lmm.released_format`'s knowledge.
"""

import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError

from ..errors import CheckpointError
from .configuration import MaskTokenizerConfig

Shapes = dict[str, tuple[int, ...]]

STANDALONE_NAME = "himtok.pth"
SIZES_NAME = "himt_config.json"
PREFIX = "mask_decoder."  # of the mask tokenizer inside the whole model
NESTED_IN = ("model", "state_dict")  # training scripts put the tensors under one of these names
IGNORED = ("sam.",)  # the segmenter that sharpens masks afterwards, kept in the same object by the reference


def find_standalone(path: str | Path) -> Path | None:
    """The stand-alone file that is meant: `path` itself or the one in the folder; None if it is neither."""
    path = Path(path).expanduser()
    if path.is_dir() and not (path / "config.json").is_file():
        path = path / STANDALONE_NAME
    return path if path.is_file() else None


def read_standalone(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a stand-alone file under our own names, whole and without running any code in it.

    Raises:
        CheckpointError: if it cannot be read or holds something else than tensors.
    """
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path} cannot be read as a file of weights: {reason}") from error
    while isinstance(tensors, dict) and (inside := [name for name in NESTED_IN if name in tensors]):
        tensors = tensors[inside[0]]
    if not isinstance(tensors, dict) or not all(torch.is_tensor(value) for value in tensors.values()):
        raise CheckpointError(f"{path} must hold named tensors, as state_dict() gives them")
    named = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in named.items() if not name.startswith(IGNORED)}


def mask_tokenizer_config(path: Path) -> MaskTokenizerConfig:
    """Sizes of the mask tokenizer: what himt_config.json states, the `released` preset if there is none.

    Raises:
        CheckpointError: if the file cannot be read, lacks an entry, or describes another kind of mask
            tokenizer.
    """
    if not path.is_file():
        return MaskTokenizerConfig.released()
    with naming(path):
        raw = json.loads(path.read_text(encoding="utf-8"))
        encoder, decoder, pixels = raw["encoder"], raw["decoder"], raw["pixel_decoder"]
        wanted = {
            "use_l2_norm": (True, raw.get("use_l2_norm", True)),
            "is_legacy": (True, raw.get("is_legacy", True)),
            "mlp_ratio of the decoder": (encoder["mlp_ratio"], decoder["mlp_ratio"]),
            "z_channels": (decoder["ffn_out_channels"], pixels["z_channels"]),
        }
        for name, (right, given) in wanted.items():
            if given != right:
                raise CheckpointError(f"{path} says {name} = {given!r}; only {right!r} can be loaded")
        names = "mask_size", "patch_size", "num_latent_tokens", "token_size", "codebook_size"
        return MaskTokenizerConfig(
            **{name: raw[name] for name in names},
            **{f"encoder_{name}": encoder[name] for name in ("width", "layers", "heads")},
            **{f"decoder_{name}": decoder[name] for name in ("width", "layers", "heads")},
            mlp_ratio=float(encoder["mlp_ratio"]),
            ffn_hidden_channels=decoder["ffn_hidden_channels"],
            ffn_out_channels=decoder["ffn_out_channels"],
            pixel_hidden_channels=pixels["hidden_channels"],
            pixel_channel_mult=pixels["channel_mult"],
            pixel_num_res_blocks=pixels["num_res_blocks"],
            pixel_out_channels=pixels["out_channels"],
            group_norm_groups=pixels["group_norm_groups"],
        )


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turns what the config classes say about wrong or missing entries into an error about the file."""
    try:
        yield
    except KeyError as error:
        raise CheckpointError(f"{path} has no entry {error}") from error
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise CheckpointError(f"the entries of {path} do not fit: {error}") from error


def check_shapes(stored: Shapes, expected: Shapes) -> None:
    """Compares what a checkpoint has with what its sizes ask for.

    Raises:
        CheckpointError: naming what is missing, left over, or of another shape.
    """
    problems = [f"{name} is missing" for name in expected if name not in stored]
    problems += [f"{name} has no place in the model" for name in stored if name not in expected]
    problems += [
        f"{name} has shape {list(stored[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in stored and tuple(stored[name]) != tuple(shape)
    ]
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError("the weights do not fit the config: " + "; ".join(problems[:5]) + more)
