"""The paper's training of the language model: stage 2, stage 3 and the finetuning for a task.

Next-token prediction on conversations in the reference's JSONL layout; in stage 2 the de-tokenizer learns
along with the hierarchical mask loss (section B). Runs through accelerate: one processor, one GPU, or many
under DDP, FSDP or DeepSpeed, on the same trajectory. What a batch is, is `stage_data`'s work, what its losses
are, `stage_model`'s.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from ..data.jsonl import read_meta
from ..data.mixture import Mixture, stage_amount
from ..data.problems import DataProblems
from ..errors import HimtokError
from ..generation.loading import load_checkpoint
from ..lmm import HimtokForConditionalGeneration
from .command import run_recipe
from .conversations import IGNORE, ConversationWriter
from .optimizers import reproducible
from .run_folder import RunFolder
from .stage_data import StageData
from .stage_files import add_lora, load_state, save_model, save_state
from .stage_model import StageModel

WEIGHT_DECAY = 0.05
WARMUP = 0.03  # of all steps
LEVELS = 3  # random levels of a mask in the hierarchical mask loss


@dataclass(frozen=True)
class Stage:
    """What the stages differ in.

    lr: peak learning rate (the paper, section D). The rest is the reference implementation's: total_batch,
    samples of an optimizer step; max_tiles of a picture; max_length, tokens of a sample; mask_loss_weight of
    the hierarchical mask loss. The de-tokenizer learns where that is above 0. The rest of the mask tokenizer
    never does, so that tokens keep their meaning.
    """

    lr: float
    total_batch: int
    max_tiles: int
    max_length: int
    mask_loss_weight: float


STAGES = {
    "2": Stage(lr=4e-5, total_batch=64, max_tiles=1, max_length=1024, mask_loss_weight=1.0),
    "3": Stage(lr=2e-5, total_batch=128, max_tiles=4, max_length=2048, mask_loss_weight=0.0),
    "finetune": Stage(lr=8e-6, total_batch=128, max_tiles=4, max_length=2048, mask_loss_weight=0.0),
}


@dataclass(frozen=True)
class Settings:
    """Of one run; saved with its weights. None: as the stage has it.

    steps: optimizer steps, None for one epoch of the mixture. batch: samples that a device takes at once;
    gradients are accumulated up to total_batch. protocol: "supplement" for the losses of section B,
    "reference" for the reference implementation's. save_every: steps between states that a killed run goes on
    from. workers: threads that prepare samples.
    """

    stage: str
    model: str
    data: str
    steps: int | None = None
    batch: int = 1
    total_batch: int | None = None
    lr: float | None = None
    lora: int | None = None
    gradient_checkpointing: bool = False
    mixed_precision: str | None = None
    protocol: str = "supplement"
    bad_data: str = "skip"
    save_every: int = 200
    workers: int = 4
    seed: int = 0


def learning_rate(step: int, steps: int, warmup: int) -> float:
    """Factor on the learning rate: linear warm-up, then half a cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def choose_parameters(network: HimtokForConditionalGeneration, stage: Stage) -> None:
    """Everything learns but the mask tokenizer; of that the de-tokenizer, where there is a mask loss."""
    for parameter in network.parameters():
        # Cut out of a fused weight while loading, some still share its memory, and a state would take
        # them for one and the same.
        parameter.data = parameter.data.clone()
    network.requires_grad_(True)
    network.mask_tokenizer.requires_grad_(False)
    network.mask_tokenizer.decoder.requires_grad_(stage.mask_loss_weight > 0)
    network.mask_tokenizer.pixel_decoder.requires_grad_(stage.mask_loss_weight > 0)


def make_optimizer(module: torch.nn.Module, lr: float) -> torch.optim.AdamW:
    """AdamW; matrices and tables decay, biases and norms do not."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr)


@reproducible()
def train(settings: Settings, folder: Path, minutes: float | None = None) -> None:
    """Train the model of `settings.model`; the result goes to `folder/model`, an adapter to `folder/adapter`.

    Raises:
        DataError: if the data cannot be used, or the folder belongs to another run.
        CheckpointError: if the model cannot be loaded.
        HimtokError: if a number is not above 0, or the batches do not divide.
    """
    for name in ("steps", "batch", "total_batch", "lr", "lora", "save_every", "workers"):
        value = getattr(settings, name)
        if value is not None and value <= 0:
            raise HimtokError(f"--{name.replace('_', '-')} must be above 0, not {value}.")
    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    stage = STAGES[settings.stage]
    total, processes = settings.total_batch or stage.total_batch, accelerator.num_processes
    accumulate, rest = divmod(total, settings.batch * processes)
    if rest or not accumulate:
        raise HimtokError(
            f"A step of {total} samples does not divide into batches of {settings.batch} on {processes} "
            "processes: change --batch or --total-batch."
        )
    accelerator.gradient_accumulation_steps = accumulate
    with accelerator.main_process_first():
        run = RunFolder(folder, asdict(settings), minutes)

    sets, problems = read_meta(settings.data), DataProblems(fatal=settings.bad_data == "fail")
    loaded = load_checkpoint(settings.model, device=accelerator.device, dtype="float32")
    network, config = loaded.model, loaded.model.config
    reference = settings.protocol == "reference"
    amounts = [stage_amount(s.name, round(s.repeat * len(s)), settings.stage) for s in sets]
    mixture = Mixture([len(s) for s in sets], amounts, settings.seed)
    writer = ConversationWriter(loaded.processor, config, stage.max_tiles, stage.max_length, reference)
    data = StageData(sets, mixture, writer, problems, LEVELS, settings.seed)
    steps = settings.steps or math.ceil(len(mixture) / total)

    torch.manual_seed(settings.seed)
    choose_parameters(network, stage)
    if settings.lora is not None:
        add_lora(network, settings.lora)
    if settings.gradient_checkpointing:
        network.activation_checkpointing_enable({"use_reentrant": False})
    module = StageModel(network, stage.mask_loss_weight > 0, reference)
    optimizer = make_optimizer(module, settings.lr or stage.lr)
    if accelerator.state.deepspeed_plugin is not None:  # it cannot see the batches itself
        accelerator.state.deepspeed_plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = settings.batch
    module, optimizer = accelerator.prepare(module, optimizer)
    first = load_state(accelerator, run)

    def draws() -> Iterator[range]:
        """The numbers of this process's batches, from the first step on."""
        for place in range(first * accumulate, steps * accumulate):
            start = (place * processes + accelerator.process_index) * settings.batch
            yield range(start, start + settings.batch)

    module.train()
    batches = data.batches(draws(), settings.workers)
    for step in range(first, steps):
        micro = [next(batches) for _ in range(accumulate)]
        counts = torch.tensor([[(b["labels"] != IGNORE).sum().item(), len(b["drawn"])] for b in micro])
        counts = counts.to(accelerator.device, torch.float32)  # (accumulate, tokens and masks)
        if reference:  # the mean of the batches' means
            shares = torch.full_like(counts, 1 / (accumulate * processes))
        else:  # every token and every mask of the step counts the same
            shares = counts / accelerator.reduce(counts.sum(0), "sum").clamp_min(1)
        factor = learning_rate(step, steps, max(1, round(WARMUP * steps)))
        for group in optimizer.param_groups:
            group["lr"] = factor * (settings.lr or stage.lr)
        sums = torch.zeros(4, device=accelerator.device)
        for batch, (text_share, mask_share) in zip(micro, shares):
            with accelerator.accumulate(module):
                losses = module({name: tensor.to(accelerator.device) for name, tensor in batch.items()})
                text, mask = text_share * losses["text"], mask_share * losses["mask"]
                # Averaged over processes and divided by `accumulate` on the way; a share is of the sum.
                loss = (text + stage.mask_loss_weight * mask) * processes * accumulate
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(module.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            sums[:2] += torch.stack([text, mask]).detach()
        over = accelerator.is_main_process and run.out_of_time
        sums[2:] += torch.tensor([len(problems), over], device=sums.device)
        text, mask, left_out, out_of_time = accelerator.reduce(sums, "sum").tolist()
        done = step + 1
        if accelerator.is_main_process:
            run.log(
                step=done,
                samples=done * total,
                loss=text + stage.mask_loss_weight * mask,
                text=text,
                mask=mask,
                lr=factor * (settings.lr or stage.lr),
                left_out=int(left_out),
            )
        last = done == steps or out_of_time > 0
        if last or done % settings.save_every == 0:
            save_state(accelerator, run, done, problems)
        if last:
            break
    save_model(accelerator, module, loaded, settings.model, settings.lora, folder)


def main(argv: list[str]) -> int:
    """`python -m himtok_core train lmm`."""
    flags = {
        "stage": {"help": "of the paper: 2 (learn masks), 3 (everything together), or finetune for a task",
                  "choices": sorted(STAGES)},
        "model": {"help": "folder or hub id to start from"},
        "data": {"help": "JSON file that names the data sets: root, annotation, repeat_time"},
        "steps": {"help": "optimizer steps; once over the data if not given", "type": int},
        "batch": {"help": "samples that a device takes at once"},
        "total_batch": {"help": "samples of an optimizer step; the stage's if not given", "type": int},
        "lr": {"help": "peak learning rate; the stage's if not given", "type": float},
        "lora": {"help": "learn low-rank adapters of this rank only (peft)", "type": int},
        "gradient_checkpointing": {"help": "compute layers again to save memory", "action": "store_true"},
        "mixed_precision": {"help": "bf16 or no; as accelerate is set up if not given",
                            "choices": ["bf16", "no"]},
        "protocol": {"help": "losses of the paper's supplement, or the reference implementation's own",
                     "choices": ["supplement", "reference"]},
        "bad_data": {"help": "what to do with samples that cannot be used", "choices": ["skip", "fail"]},
        "save_every": {"help": "steps between states that a killed run goes on from"},
        "workers": {"help": "threads that prepare samples"},
        "seed": {"help": "of the order of the samples"},
    }  # fmt: skip
    return run_recipe("lmm", __doc__.splitlines()[0], Settings, train, flags, argv)
