"""Training the mask tokenizer (section 3 of the paper): masks in, 32 codes, the same masks out.

A plain vector quantizer collapses at this size, so the codes start as k-means centres of what the encoder
says after a while without quantising, follow it as moving averages, and start anew where they fall out of
use.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..data.scenes import HELD_OUT_SEED
from ..data.world import WORLDS
from ..mask_tokenizer import MaskTokenizer, MaskTokenizerConfig
from .command import run_recipe
from .losses import mask_loss
from .mask_data import MaskBatches, load_photo_masks, scene_masks
from .mini import SIZES
from .muon import Muon
from .optimizers import (
    Optimizers,
    learning_rate,
    quick_products,
    reproducible,
    split_for_muon,
    training_device,
)
from .prefetch import prefetch
from .run_folder import RunFolder
from .scene_batches import as_shares

LENGTHS = [1, 2, 4, 8, 16, 32]


@dataclass(frozen=True)
class Settings:
    """Of one run; saved with its weights.

    With `init`, the folder of a trained mask tokenizer, its codes are the ones to begin with.

    With `schedule_minutes` it ends after so long instead of after `steps`, and its schedule follows the
    clock.

    From step `codes_fixed_from` on the encoder and the codebook stand still and only the decoder learns: the
    language model can begin with the codes while the drawing goes on improving.
    """

    init: str | None = None
    steps: int = 7000
    schedule_minutes: float | None = None
    batch: int = 32
    seed: int = 0
    lr: float = 1e-3
    muon_lr: float = 2e-3
    dice_weight: float = 1.0
    commitment: float = 0.25
    quantise_from: int = 400
    ema: float = 0.99
    restart_every: int = 20
    codes_fixed_from: int | None = None
    photo_masks: str | None = None
    world: str = "mini"


class CodebookTracker:
    """Moving averages behind the codebook: how often a code is used and what it stands for."""

    def __init__(self, codebook: torch.Tensor, ema: float):
        self.ema = ema
        self.count = torch.ones(codebook.shape[0], device=codebook.device)
        self.total = codebook.clone()

    def update(self, z: torch.Tensor, ids: torch.Tensor, codebook: torch.Tensor) -> None:
        """z: (N, D) unit vectors that chose `ids` (N,); moves `codebook` (K, D) in place."""
        self.count.mul_(self.ema).index_add_(0, ids, torch.ones_like(z[:, 0]), alpha=1 - self.ema)
        self.total.mul_(self.ema).index_add_(0, ids, z, alpha=1 - self.ema)
        codebook.copy_(F.normalize(self.total, dim=-1))

    def restart(self, z: torch.Tensor, codebook: torch.Tensor) -> int:
        """Codes used less than a tenth of the average become random members of z (N, D) -> how many."""
        rare = self.count < 0.1 * self.count.mean()
        number = int(rare.sum())
        if number:
            fresh = z[torch.randint(len(z), (number,), device=z.device)]
            codebook[rare] = fresh
            self.count[rare] = self.count.mean()
            self.total[rare] = fresh * self.count.mean()
        return number


def kmeans(z: torch.Tensor, count: int, rounds: int = 12) -> torch.Tensor:
    """Spherical k-means: unit vectors (N, D) -> unit centres (count, D)."""
    centres = z[torch.randperm(len(z), device=z.device)[:count]]
    for _ in range(rounds):
        ids = (z @ centres.T).argmax(1)
        total = torch.zeros_like(centres).index_add_(0, ids, z)
        used = torch.bincount(ids, minlength=count) > 0
        total[~used] = z[torch.randint(len(z), (int((~used).sum()),), device=z.device)]
        centres = F.normalize(total, dim=-1)
    return centres


@torch.no_grad()
def score(model: MaskTokenizer, masks: torch.Tensor) -> dict[str, float]:
    """Round trip of masks (N, S, S): mean IoU at every length, codes used, perplexity of their use."""
    ious, ids = [], []
    for chunk in masks.split(64):
        tokens = model.encode(chunk)
        drawn = model.decode_prefixes(tokens, LENGTHS) > 0.5  # (B, P, S, S)
        truth = (chunk > 0.5)[:, None]
        union = (drawn | truth).sum((2, 3)).clamp_min(1)
        ious.append((drawn & truth).sum((2, 3)) / union)
        ids.append(tokens.flatten())
    use = torch.bincount(torch.cat(ids), minlength=model.config.codebook_size).double()
    share = use / use.sum()
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    mean = torch.cat(ious).mean(0)
    row = {f"iou@{n}": round(mean[i].item(), 4) for i, n in enumerate(LENGTHS)}
    return {**row, "codes": int((use > 0).sum()), "perplexity": round(entropy.exp().item(), 1)}


@reproducible()
def train(
    settings: Settings, folder: Path, minutes: float | None = None, config: MaskTokenizerConfig | None = None
) -> MaskTokenizer:
    """Train until `settings.steps` or for so many minutes; the weights go to `folder/model`.

    Returns the model in its state at the end. Calling again with the same folder goes on.
    """
    device = training_device()
    run = RunFolder(folder, asdict(settings), minutes)
    torch.manual_seed(settings.seed)
    if settings.init:
        model = MaskTokenizer.from_pretrained(settings.init, dtype=torch.float32).to(device)
    else:
        model = MaskTokenizer(config or SIZES[settings.world].mask_tokenizer).to(device)
    model.quantize.requires_grad_(False)  # follows by moving averages instead
    size, world = model.config.mask_size, WORLDS[settings.world]()
    photos = load_photo_masks(Path(settings.photo_masks), size) if settings.photo_masks else None
    batches = MaskBatches(world, size, settings.batch, settings.seed, photos)
    held_out = [mask for seed in range(150) for mask in scene_masks(HELD_OUT_SEED + seed, world, size)]
    held_out = as_shares(torch.from_numpy(np.stack(held_out)).to(device))

    matrices, others = split_for_muon(model, ("transformer.",))
    optimizers = Optimizers(
        Muon(matrices, lr=settings.muon_lr, weight_decay=0.01),
        torch.optim.AdamW(others, lr=settings.lr, betas=(0.9, 0.99), weight_decay=0.01),
    )
    codebook = model.quantize.embedding.weight.data
    tracker = CodebookTracker(codebook, settings.ema)
    recent: list[torch.Tensor] = []  # what the encoder said lately, for k-means
    first = 0
    if (state := run.load(device)) is not None:
        model.load_state_dict(state["model"])
        optimizers.load_state_dict(state["optimizers"])
        tracker.count, tracker.total, first = state["count"], state["total"], state["step"]
        recent = state["recent"]
    model.train()
    for step, batch in enumerate(run.timed(prefetch(batches, first, run.steps)), start=first):
        progress = run.progress(step)
        torch.manual_seed(settings.seed * 1_000_003 + step)  # restarts draw from it: the same after a resume
        masks, lengths = (x.to(device, non_blocking=True) for x in batch)
        masks = as_shares(masks)
        fixed = settings.codes_fixed_from is not None and step >= settings.codes_fixed_from
        with torch.set_grad_enabled(not fixed), quick_products():
            z = model.encoder(masks, model.latent_tokens)
        z = F.normalize(z.float(), dim=-1)  # (B, L, D)
        flat = z.detach().flatten(0, 1)
        if fixed:
            codes, commitment = codebook[model.quantize.nearest(z)], torch.zeros((), device=device)
        elif step < settings.quantise_from and not settings.init:
            codes, commitment = z, torch.zeros((), device=device)
            recent = (recent + [flat])[-12:]
        else:
            if step == settings.quantise_from and not settings.init:
                codebook.copy_(kmeans(torch.cat(recent or [flat]), len(codebook)))
                tracker = CodebookTracker(codebook, settings.ema)
                recent = []
            ids = model.quantize.nearest(flat)
            chosen = codebook[ids].view_as(z)
            commitment = settings.commitment * (z - chosen).square().mean()
            codes = z + (chosen - z).detach()  # straight through
            tracker.update(flat, ids, codebook)
            if step % settings.restart_every == 0:
                tracker.restart(flat, codebook)
        with quick_products():
            logits = model.draw_logits(codes, lengths)
        loss = mask_loss(logits.float(), masks, settings.dice_weight)
        (loss + commitment).backward()
        optimizers.step(model.parameters(), learning_rate(step, progress, warmup=100))

        done = step + 1
        if done % 25 == 0:
            run.log(step=done, loss=loss.item(), commitment=commitment.item())
        last = run.is_over(done)
        if run.scores_after(done) or last:
            model.eval()
            run.log(step=done, samples=done * settings.batch, **score(model, held_out))
            model.train()
            run.save(
                {
                    "model": model.state_dict(),
                    "optimizers": optimizers.state_dict(),
                    "count": tracker.count,
                    "total": tracker.total,
                    "recent": recent,
                    "step": done,
                }
            )
            model.save_pretrained(run.folder / "model")
        if last:
            break
    return model.eval()


def main(argv: list[str]) -> int:
    """`python -m himtok_core train tokenizer`."""
    flags = {
        "init": {"help": "folder of a mask tokenizer to go on from"},
        "steps": {"help": "optimizer steps"},
        "batch": {"help": "masks a step"},
        "seed": {"help": "of weights and batches"},
        "photo_masks": {"help": "JSON file of masks to mix in"},
        "world": {"help": "what scenes are made of", "choices": sorted(WORLDS)},
        "codes_fixed_from": {"help": "step from which only the decoder learns", "type": int},
    }
    return run_recipe("tokenizer", __doc__.splitlines()[0], Settings, train, flags, argv)
