"""What a training stage keeps: states to go on from, the trained model, a LoRA adapter.

States are accelerate's, whatever the backend (one file on one device, shards under FSDP or DeepSpeed). Models
come out in this project's format, adapters in peft's.
"""

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator

from ..data.problems import DataProblems
from ..errors import HimtokError
from ..generation.loading import Loaded, load_checkpoint
from ..lmm import HimtokForConditionalGeneration
from .run_folder import RunFolder

if TYPE_CHECKING:
    from peft import PeftModel

_STATE = re.compile(r"state-(\d+)")
# The linear layers of the language model, whatever its family calls the layer around them.
_ADAPTED = r"model\.language_model\..*\.(q|k|v|o|gate|up|down)_proj"


def add_lora(network: HimtokForConditionalGeneration, rank: int) -> "PeftModel":
    """Put low-rank adapters into the language model, in place, and let nothing else learn.

    Returns:
        peft's wrapper around the network, for saving.

    Raises:
        HimtokError: if peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise HimtokError("--lora needs the package peft: pip install peft") from error
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.05, target_modules=_ADAPTED)
    return get_peft_model(network, config)


def last_state(folder: Path) -> tuple[int, Path] | None:
    """(step, folder) of the last complete state of a run; None if there is none."""
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _STATE.fullmatch(path.name))]
    return max(found, default=None)


def save_state(accelerator: Accelerator, run: RunFolder, step: int, problems: DataProblems) -> None:
    """Write a state so that a kill at any moment leaves the one before or this one; the older ones go.

    The samples that were left out so far are named in `left_out-N.txt`, N the number of the process.
    """
    scratch, target = run.folder / "state.tmp", run.folder / f"state-{step:08d}"
    if accelerator.is_main_process:
        shutil.rmtree(scratch, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(scratch))
    accelerator.wait_for_everyone()
    names = run.folder / f"left_out-{accelerator.process_index}.txt"
    before = names.read_text(encoding="utf-8").splitlines() if names.exists() else []
    if lines := dict.fromkeys([*before, *problems.lines]):
        names.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    if accelerator.is_main_process:
        progress = {"step": step, "seconds": run.seconds}
        (scratch / "progress.json").write_text(json.dumps(progress), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        scratch.rename(target)
        for path in run.folder.iterdir():
            if _STATE.fullmatch(path.name) and path != target:
                shutil.rmtree(path)
    accelerator.wait_for_everyone()


def load_state(accelerator: Accelerator, run: RunFolder) -> int:
    """Take up the last state of a run; the steps that are done, 0 for a new run."""
    found = last_state(run.folder)
    if found is None:
        return 0
    step, path = found
    accelerator.load_state(str(path))
    run.seconds_before = json.loads((path / "progress.json").read_text(encoding="utf-8"))["seconds"]
    return step


def save_model(
    accelerator: Accelerator,
    module: torch.nn.Module,
    loaded: Loaded,
    source: str,
    lora: int | None,
    folder: Path,
) -> None:
    """Write the trained model to `folder/model`, adapters merged, and adapters alone to `folder/adapter`.

    The weights are saved in the number type of the training: bfloat16 under mixed precision, else float32.
    """
    weights = accelerator.get_state_dict(module)  # whole only on the main process
    if accelerator.is_main_process:
        weights = {name.removeprefix("network."): tensor for name, tensor in weights.items()}
        # A copy that is not spread over devices, and that may be merged while training could go on.
        network = load_checkpoint(source, device="cpu", dtype="float32").model
        wrapped = add_lora(network, lora) if lora is not None else None
        network.load_state_dict(weights)
        if wrapped is not None:
            wrapped.save_pretrained(folder / "adapter")
            network = wrapped.merge_and_unload()
        if accelerator.mixed_precision == "bf16":
            network = network.to(torch.bfloat16)
        network.save_pretrained(folder / "model")
        loaded.processor.save_pretrained(folder / "model")
        if loaded.concepts:
            names = json.dumps(loaded.concepts, ensure_ascii=False)
            (folder / "model" / "concepts.json").write_text(names, encoding="utf-8")
    accelerator.wait_for_everyone()
