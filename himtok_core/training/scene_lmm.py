"""Training himtok-mini's language model on conversations about drawn scenes; the mask tokenizer is frozen.

Next-token prediction, the hierarchical mask loss of the paper's section B, and side tasks that make a model
of this size look at the picture.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from ..data.questions import WEIGHTS, Question, ask
from ..data.scenes import HELD_OUT_SEED, Scene, make_scene
from ..data.world import WORLDS, World
from ..geometry import box_iou, scale_box_to_pixels, stretch_mask
from ..lmm import HimtokForConditionalGeneration, HimtokProcessor
from ..markup import BoxSpan, MaskSpan, parse
from ..mask_tokenizer import MaskTokenizer
from .command import run_recipe
from .dense import DenseHeads
from .mini import row_features, share_rows
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
from .scene_batches import ConversationBatches, PatchBatches, as_shares, normalised
from .scene_losses import (
    countdown_loss,
    hidden_states,
    hierarchical_mask_loss,
    looking_loss,
    say_masks,
    token_losses,
)
from .vision import name_token_ids
from .vision import save as save_stage

# First where things are, in few tokens; then everything.
BOXES = {"box": 6.0, "absent": 0.5, "what_is_at": 1.5, "colour_of": 0.5, "count": 0.5, "yes_no": 0.5}
# What has a bar of its own, and what few scenes allow: an ordinal needs several things of one name.
MORE_OF = {
    "segment": 11.0,
    "segment_position": 8.0,
    "segment_ordinal": 6.0,
    "segment_relation": 5.0,
    "segment_size": 7.0,
    "segment_then_box": 3.0,
    "segment_with_length": 2.0,
    "segment_synonym": 2.0,
    "segment_colour_shape": 3.0,
    "box": 7.0,
    "absent": 6.0,
    "count": 4.0,
    "yes_no": 2.0,
    "what_is_at": 2.0,
    "colour_of": 2.0,
    "describe": 4.0,
    "list_masks": 4.0,
    "mask_perception": 6.0,
}
TASKS = ("boxes", "all")


@dataclass(frozen=True)
class Settings:
    """Of one run; saved with its weights.

    `init` is the folder of an earlier run, or that of a model that ships, whose side heads begin anew.
    With `schedule_minutes` the run ends after so long instead of after `steps`, and its schedule follows the
    clock.
    `mask_loss_from` is the part of the run after which the hierarchical mask loss joins in: earlier it
    hurts the first token. Without `mask_loss_weight`, or without `grained_labels`, it is what the paper's
    ablations leave out.
    """

    init: str
    mask_tokenizer: str
    tasks: str = "all"
    steps: int = 4000
    schedule_minutes: float | None = None
    scenes: int = 16
    questions: int = 6
    next_turn: float = 0.35
    world: str = "mini"
    seed: int = 0
    lr: float = 1e-3
    muon_lr: float = 2e-3
    vision_lr: float = 0.5
    dense_weight: float = 1.0
    look_weight: float = 0.5
    mask_token_weight: float = 0.5
    mask_loss_weight: float = 0.5
    mask_loss_from: float = 0.3
    mask_loss_masks: int = 10
    mask_loss_levels: int = 2
    grained_labels: bool = True


@cache
def held_out_questions(world: World, kind: str, count: int) -> list[tuple[Scene, Question]]:
    """So many questions of a kind that show no mask, each about a scene of its own."""
    asked, seed = [], HELD_OUT_SEED + 50_000
    while len(asked) < count:
        scene = make_scene(seed, world)
        question = ask(scene, kind, np.random.default_rng(seed), world)
        if question is not None and not question.prompt_masks:
            asked.append((scene, question))
        seed += 1
    return asked


@torch.no_grad()
def generated_scores(
    model: HimtokForConditionalGeneration,
    processor: HimtokProcessor,
    world: World,
    kinds: list[str],
    count: int = 48,
) -> dict[str, float]:
    """Greedy answers to held-out questions: mean IoU of masks (at the tokenizer's size) and of boxes."""
    scores: dict[str, float] = {}
    size = model.config.mask_tokenizer_config.mask_size
    for kind in kinds:
        asked = held_out_questions(world, kind, count)
        messages = [
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.prompt}]}]
            for _, question in asked
        ]
        texts = [processor.apply_chat_template(message, add_generation_prompt=True) for message in messages]
        inputs = processor(
            images=[scene.picture for scene, _ in asked], text=texts, padding=True, return_tensors="pt"
        ).to(model.device)
        out = model.generate(**inputs, max_new_tokens=70, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        mask_ious, box_ious = [], []
        for ids, (scene, question) in zip(out, asked, strict=True):
            ids = ids[ids != processor.tokenizer.pad_token_id]
            text = processor.tokenizer.decode(ids).removesuffix("<|im_end|>")
            spans = parse(text)
            target = np.logical_or.reduce([scene.objects[i].mask for i in question.target])
            if question.answer_masks:
                runs = [span.tokens for span in spans if isinstance(span, MaskSpan) and span.problem is None]
                iou = 0.0
                if runs:
                    drawn = model.mask_tokenizer.decode(torch.tensor([runs[0]], device=model.device))[0] > 0.5
                    truth = torch.from_numpy(stretch_mask(target, size) > 0.5).to(model.device)
                    iou = ((drawn & truth).sum() / (drawn | truth).sum().clamp_min(1)).item()
                mask_ious.append(iou)
            if "<box>" in question.answer:
                boxes = [
                    span.boxes[0] for span in spans if isinstance(span, BoxSpan) and span.problem is None
                ]
                truth = scene.objects[question.target[0]].box
                box_ious.append(box_iou(scale_box_to_pixels(boxes[0], scene.size), truth) if boxes else 0.0)
        if mask_ious:
            scores[f"{kind}_iou"] = round(float(np.mean(mask_ious)), 4)
        if box_ious:
            scores[f"{kind}_box_iou"] = round(float(np.mean(box_ious)), 4)
    return scores


@reproducible()
def train(settings: Settings, folder: Path, minutes: float | None = None) -> None:
    """Train from the model in `settings.init`; model and processor go to `folder/model`."""
    device = training_device()
    run = RunFolder(folder, asdict(settings), minutes)
    torch.manual_seed(settings.seed)
    world = WORLDS[settings.world]()
    init = Path(settings.init)
    ships = not (init / "model").exists()
    weights = init if ships else init / "model"
    processor = HimtokProcessor.from_pretrained(weights)
    model = HimtokForConditionalGeneration.from_pretrained(weights, dtype=torch.float32).to(device)
    model.mask_tokenizer = MaskTokenizer.from_pretrained(settings.mask_tokenizer, dtype=torch.float32).to(
        device
    )
    model.config.mask_tokenizer_config = model.mask_tokenizer.config
    model.mask_tokenizer.requires_grad_(False).eval()
    mask_config = model.mask_tokenizer.config
    heads = DenseHeads(
        model.config.text_config.hidden_size,
        name_token_ids(processor, world),
        mask_config.num_latent_tokens * mask_config.token_size,
    ).to(device)
    if not ships:
        heads.load_state_dict(torch.load(init / "heads.pt", map_location=device, weights_only=True))
    codebook = model.mask_tokenizer.quantize.codebook()
    # What the run before has learned already: nothing of numbers after vision, nothing of mask tokens before
    # the stage with all tasks.
    before = "all" if ships else json.loads((init / "settings.json").read_text("utf-8")).get("tasks")
    fresh = torch.full((len(processor.tokenizer),), before is None, device=device)
    fresh[model.config.first_mask_id : model.config.last_mask_id + 1] = before != "all"
    share_rows(model, row_features(processor, model.config, codebook.cpu()).to(device), fresh)
    model.to(device)
    processor.save_pretrained(folder / "model")
    grid = round(model.config.image_seq_length**0.5)
    patches = PatchBatches(processor, world, settings.scenes, settings.seed, grid, mask_config.mask_size)
    asked = BOXES if settings.tasks == "boxes" else {**WEIGHTS, **MORE_OF}
    batches = ConversationBatches(patches, settings.questions, asked, settings.next_turn)
    numbers = torch.tensor(batches.writer.numbers, device=device)
    draws = settings.tasks == "all" and settings.mask_loss_weight > 0
    language = torch.nn.ModuleDict({"layers": model.model.language_model, "head": model.lm_head})
    vision = torch.nn.ModuleDict(
        {"tower": model.model.vision_tower, "projector": model.model.multi_modal_projector, "heads": heads}
    )
    matrices, others = split_for_muon(language, (".layers.",))
    seeing, seeing_others = split_for_muon(vision, ("encoder.layer.", "projector."))
    optimizers = Optimizers(
        Muon(matrices, lr=settings.muon_lr),
        Muon(seeing, lr=settings.muon_lr * settings.vision_lr),
        torch.optim.AdamW(
            [{"params": others}, {"params": seeing_others, "lr": settings.lr * settings.vision_lr}],
            lr=settings.lr,
            betas=(0.9, 0.98),
            weight_decay=0.01,
        ),
    )
    first = 0
    if (state := run.load(device)) is not None:
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        optimizers.load_state_dict(state["optimizers"])
        first = state["step"]

    model.train()
    for step, drawn in enumerate(run.timed(prefetch(batches, first, run.steps)), start=first):
        progress = run.progress(step)
        drawn = drawn.to(device)
        targets, masks = drawn.targets, as_shares(drawn.masks)
        packed = say_masks(drawn.packed, masks, model)
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        codes = None
        if settings.tasks == "all":
            codes = codebook[model.mask_tokenizer.encode(as_shares(targets.masks))]
        with quick_products():
            visual = model.model.get_image_features(normalised(drawn.pixels)).pooler_output
            dense, dense_shown = heads(visual, targets, model.model.language_model.embed_tokens.weight, codes)
            states = hidden_states(model, visual, packed)
            spoken, shown = token_losses(model, states, packed, numbers, settings.mask_token_weight)
            looking, looking_shown = looking_loss(heads, states, visual, targets, packed)
            counting, counting_shown = countdown_loss(heads, states, packed)
            loss = spoken + settings.dense_weight * dense + settings.look_weight * (looking + counting)
            if draws and progress >= settings.mask_loss_from:
                most, levels = settings.mask_loss_masks, settings.mask_loss_levels
                drawing = hierarchical_mask_loss(
                    model, states, packed, masks, most, levels, generator, settings.grained_labels
                )
                loss = loss + settings.mask_loss_weight * drawing
                shown["mask_loss"] = drawing.detach()
        loss.backward()
        learning = [*language.parameters(), *vision.parameters()]
        optimizers.step(learning, learning_rate(step, progress, warmup=60))

        done = step + 1
        if done % 25 == 0:
            parts = {**shown, **looking_shown, **counting_shown, **dense_shown}
            run.log(step=done, loss=loss.item(), **{name: part.item() for name, part in parts.items()})
        last = run.is_over(done)
        if run.scores_after(done) or last:
            model.eval()
            kinds = ["box"] if settings.tasks == "boxes" else ["box", "segment", "segment_then_box"]
            scores = generated_scores(model, processor, world, kinds)
            model.train()
            model.mask_tokenizer.eval()
            run.log(step=done, samples=done * settings.scenes * settings.questions, **scores)
            state = {"model": model.state_dict(), "heads": heads.state_dict()}
            run.save({**state, "optimizers": optimizers.state_dict(), "step": done})
            save(model, heads, folder)
        if last:
            break


def save(model: HimtokForConditionalGeneration, heads: DenseHeads, folder: Path) -> None:
    """The model with its shared rows merged into plain tables, and the heads for a next stage."""
    merged = HimtokForConditionalGeneration(model.config)
    rows = {
        name.replace("parametrizations.weight.original", "weight"): value
        for name, value in model.state_dict().items()
        if "parametrizations.weight.0" not in name
    }
    rows["model.language_model.embed_tokens.weight"] = model.model.language_model.embed_tokens.weight.detach()
    rows["lm_head.weight"] = model.lm_head.weight.detach()
    merged.load_state_dict(rows)
    merged.generation_config.eos_token_id = model.config.text_config.eos_token_id
    merged.generation_config.pad_token_id = model.config.text_config.pad_token_id
    save_stage(merged, heads, folder)


def main(argv: list[str]) -> int:
    """`python -m himtok_core train scene-lmm`."""
    flags = {
        "init": {"help": "run to start from (vision, or an earlier scene-lmm), or a model that ships"},
        "mask_tokenizer": {"help": "folder of a trained mask tokenizer"},
        "tasks": {"help": "boxes first, then all", "choices": TASKS},
        "steps": {"help": "optimizer steps"},
        "scenes": {"help": "pictures a step"},
        "questions": {"help": "questions a picture"},
        "next_turn": {"help": "share of conversations that go on after a turn"},
        "world": {"help": "what scenes are made of", "choices": sorted(WORLDS)},
        "seed": {"help": "of the batches"},
        "mask_loss_weight": {"help": "of the hierarchical mask loss; 0 leaves it out"},
        "mask_loss_from": {"help": "part of the run after which it joins in"},
        "grained_labels": {
            "help": "blur its labels of few tokens",
            "action": argparse.BooleanOptionalAction,
        },
    }
    return run_recipe("scene-lmm", __doc__.splitlines()[0], Settings, train, flags, argv)
