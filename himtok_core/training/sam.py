"""Training SAM to refine (the supplement, section C): pictures and imperfect masks in, the true masks out.

From given weights only the mask decoder and the prompt encoder's mask convolutions learn. Without any, our
small SAM learns as a whole from nothing, helped by a head that names what each pixel belongs to.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ..chat import load
from ..data.world import WORLDS
from ..errors import DataError
from ..evaluation.refinement import MaskScores, drawn_from, refined_scores, unrefined_scores
from ..refine import RefinementSam, SamConfig, SamRefiner
from ..refine.loading import load_sam, save_sam
from .command import run_recipe
from .losses import mask_loss
from .muon import Muon
from .optimizers import Optimizers, learning_rate, reproducible, training_device
from .run_folder import RunFolder, read_rows
from .sam_data import RefinementBatch, RefinementBatches
from .sam_sources import CocoSource, SceneSource, Source

LEARNS = ("mask_decoder.", "prompt_encoder.mask_downscaling")  # when finetuning
MATRICES = ("qkv.weight", "proj.weight", "lin1.weight", "lin2.weight")  # of the transformer blocks


@dataclass(frozen=True)
class Settings:
    """Of one run; saved with its weights.

    model: whose mask tokenizer draws the masks to refine. init: weights to finetune; None to train the small
    SAM from nothing. world: what drawn scenes are made of. coco, photographs: an instances.json and the
    folder of its pictures, instead of drawn scenes. scenes: how many pictures are held out for the scores.
    lr, muon_lr: of a SAM from nothing. finetune_lr: of given weights.
    reference_prompts: part of the batches that are asked as the reference implementation asks.
    """

    model: str
    init: str | None = None
    world: str = "mini"
    coco: str | None = None
    photographs: str | None = None
    steps: int = 3000
    pictures: int = 10
    masks: int = 4
    seed: int = 0
    lr: float = 1e-3
    muon_lr: float = 2e-3
    finetune_lr: float = 1e-4
    dice_weight: float = 1.0
    iou_weight: float = 0.5
    pixel_weight: float = 0.5
    reference_prompts: float = 0.15
    scenes: int = 100
    score_every: int = 500


class PixelHead(nn.Module):
    """What the embedding says about each pixel: (B, C, G, G) -> logits (B, 2, 4 G, 4 G).

    Whether an object is there, and whether another object or none is right beside it.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.project = nn.Conv2d(channels, 2 * 16, kernel_size=1)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """embeddings: (B, C, G, G)."""
        return F.pixel_shuffle(self.project(embeddings), 4)


def pixel_loss(logits: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of `PixelHead`: logits (B, 2, S, S), int owners (B, S, S) -> scalar."""
    numbers = owners[:, None].float()
    highest = F.max_pool2d(numbers, 3, stride=1, padding=1)
    lowest = -F.max_pool2d(-numbers, 3, stride=1, padding=1)
    targets = torch.cat([numbers > 0, highest != lowest], dim=1).float()
    return F.binary_cross_entropy_with_logits(logits, targets)


def refinement_loss(
    refiner: SamRefiner, head: PixelHead | None, batch: RefinementBatch, settings: Settings, kind: str
) -> torch.Tensor:
    """Cross-entropy and Dice of the masks, squared error of the guessed IoU, and the head's cross-entropy."""
    model = refiner.model
    per_picture = len(batch.maps) // len(batch.pictures)
    embeddings = model.embed(batch.pictures)  # (P, C, G, G)
    repeated = embeddings[:, None].expand(-1, per_picture, -1, -1, -1).flatten(0, 1)  # (P * K, C, G, G)
    logits, guessed = model.draw(repeated, refiner.prompts(batch.maps, kind))
    logits = F.interpolate(logits[:, None], batch.truths.shape[1:], mode="bilinear")[:, 0]  # (P * K, T, T)
    loss = mask_loss(logits, batch.truths, settings.dice_weight)
    drawn, truth = logits > 0, batch.truths > 0.5
    ious = (drawn & truth).sum((1, 2)) / (drawn | truth).sum((1, 2)).clamp_min(1)
    loss = loss + settings.iou_weight * F.mse_loss(guessed, ious)
    if head is not None:
        loss = loss + settings.pixel_weight * pixel_loss(head(embeddings), batch.owners)
    return loss


def train(
    settings: Settings, folder: Path, minutes: float | None = None, config: SamConfig | None = None
) -> RefinementSam:
    """Train until `settings.steps` or for so many minutes; the weights go to `folder/model`.

    `folder/report.json` compares the masks without refinement, with the initial weights, and with the
    trained ones. Returns the model in its state at the end. Calling again with the same folder goes on.

    Args:
        config: sizes of a SAM that learns from nothing; the `mini` preset if None.

    Raises:
        CheckpointError: if the weights in `settings.init` cannot be loaded.
        DataError: if the pictures cannot be read, or the folder belongs to a run with other settings.
    """
    device = training_device()
    run = RunFolder(folder, asdict(settings), minutes)
    tokenizer = load(settings.model, device=device, dtype="float32").mask_tokenizer
    torch.manual_seed(settings.seed)
    if settings.init is None:
        model = RefinementSam(config or SamConfig.mini()).to(device)
        nn.init.normal_(model.image_encoder.pos_embed, std=0.02)
        head = PixelHead(model.config.prompt_dim).to(device)
        learning = nn.ModuleList([model, head])
        matrices = [p for n, p in learning.named_parameters() if p.ndim == 2 and n.endswith(MATRICES)]
        known = {id(p) for p in matrices}
        others = [p for p in learning.parameters() if id(p) not in known]
        optimizers = Optimizers(
            Muon(matrices, lr=settings.muon_lr, weight_decay=0.01),
            torch.optim.AdamW(others, lr=settings.lr, betas=(0.9, 0.99), weight_decay=0.01),
        )
    else:
        model, head = load_sam(settings.init, device), None
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(LEARNS))
        learning = nn.ModuleList([model])
        chosen = [p for p in model.parameters() if p.requires_grad]
        optimizers = Optimizers(torch.optim.AdamW(chosen, lr=settings.finetune_lr, weight_decay=0.01))
    refiner, source = SamRefiner(model), _source(settings)
    batches = RefinementBatches(
        source, tokenizer, model.config, settings.pictures, settings.masks, settings.seed
    )
    pictured = source.held_out(settings.scenes)
    held_out = drawn_from([(each.picture, each.masks) for each in pictured], tokenizer)
    first = 0
    if (state := run.load(device)) is not None:
        learning.load_state_dict(state["learning"])
        optimizers.load_state_dict(state["optimizers"])
        first = state["step"]
    else:
        model.eval()
        run.log(step=0, stage="unrefined", **_row(unrefined_scores(held_out)))
        run.log(step=0, stage="initial", **_row(refined_scores(refiner, held_out)))
    model.train()
    for step in range(first, settings.steps):
        batch = batches(step)
        batch = RefinementBatch(*(getattr(batch, name).to(device) for name in batch.__dataclass_fields__))
        torch.manual_seed(settings.seed * 1_000_003 + step)
        kind = "reference" if torch.rand(()) < settings.reference_prompts else "mask"
        with reproducible():
            loss = refinement_loss(refiner, head, batch, settings, kind)
            loss.backward()
            optimizers.step(learning.parameters(), learning_rate(step, step / settings.steps, warmup=100))

        done = step + 1
        if done % 20 == 0:
            run.log(step=done, loss=loss.item())
        last = done == settings.steps or run.out_of_time
        if done % settings.score_every == 0 or last:
            model.eval()
            samples = done * settings.pictures
            run.log(step=done, stage="refined", samples=samples, **_row(refined_scores(refiner, held_out)))
            model.train()
            run.save(
                {"learning": learning.state_dict(), "optimizers": optimizers.state_dict(), "step": done}
            )
            save_sam(model, run.folder / "model", torch.float16)
            _report(run)
        if last:
            break
    return model.eval()


def _source(settings: Settings) -> Source:
    if settings.coco is None:
        return SceneSource(WORLDS[settings.world]())
    if settings.photographs is None:
        raise DataError("COCO's masks need their photographs: name the folder with --photographs.")
    return CocoSource(Path(settings.coco), Path(settings.photographs), settings.scenes)


def _row(scores: dict[str, MaskScores]) -> dict[str, float]:
    rows = {}
    for way, score in scores.items():
        rows[f"iou@{way}"] = round(score.mean_iou, 4)
        rows[f"boundary@{way}"] = round(score.boundary_f, 4)
    return rows


def _report(run: RunFolder) -> None:
    """The last scores of every stage as `report.json`."""
    report = {row["stage"]: row for row in read_rows(run.folder) if "stage" in row}
    (run.folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main(argv: list[str]) -> int:
    """`python -m himtok_core train sam`: one JSON line with the last scores on standard output."""
    flags = {
        "model": {"help": "folder or hub id of the model whose mask tokenizer draws the masks to refine"},
        "init": {"help": "weights to finetune: file, folder or hub id; without it a small SAM from nothing"},
        "world": {"help": "what drawn scenes are made of", "choices": list(WORLDS)},
        "coco": {"help": "a COCO instances.json to learn from instead of drawn scenes"},
        "photographs": {"help": "folder of its pictures"},
        "steps": {"help": "optimizer steps"},
        "pictures": {"help": "pictures a step"},
        "masks": {"help": "masks a picture"},
        "seed": {"help": "of weights and data"},
        "scenes": {"help": "held-out pictures to score"},
        "score_every": {"help": "steps between two scores and saved states"},
    }
    return run_recipe("sam", __doc__.splitlines()[0], Settings, train, flags, argv)
