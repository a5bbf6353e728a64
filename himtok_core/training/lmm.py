"""Training the language model: conversations about scenes, next-token prediction, and the hierarchical
mask loss of the paper's section B.

A picture and the words before the first question are computed once; the conversations about it branch off
from that key-value cache. The mask tokenizer is frozen.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import DynamicCache

from ..data.questions import WEIGHTS, ask
from ..data.scenes import HELD_OUT_SEED, World, make_scene
from ..geometry import box_iou, scale_box_to_pixels, stretch_mask
from ..lmm import HimtokForConditionalGeneration, HimtokProcessor
from ..markup import BoxSpan, MaskSpan, parse
from ..mask_tokenizer import MaskTokenizer
from .dense import DenseHeads
from .losses import grained_labels, mask_loss, sample_levels
from .mini import row_features, share_rows
from .muon import Muon
from .run_folder import RunFolder, learning_rate, split_for_muon
from .scene_batches import (
    IGNORE,
    Branch,
    ConversationBatches,
    DenseTargets,
    dense_targets,
    pixels,
    world_names,
)
from .vision import name_token_ids

# First where things are, in few tokens; then everything.
BOXES = {"box": 6.0, "absent": 0.5, "what_is_at": 1.5, "colour_of": 0.5, "count": 0.5, "yes_no": 0.5}
ALL = {**WEIGHTS, "segment": 9.0, "box": 6.0, "segment_then_box": 3.0}
TASKS = {"boxes": BOXES, "all": ALL}
NUMBER_SPREAD = 15.0  # of a coordinate's label, in thousandths of the picture's side


@dataclass(frozen=True)
class Settings:
    """Of one run; saved with its weights.

    `mask_loss_from` is the part of the run after which the hierarchical mask loss joins in: earlier it
    hurts the first token.
    """

    init: str
    mask_tokenizer: str
    tasks: str = "all"
    steps: int = 4000
    scenes: int = 10
    questions: int = 8
    second_turn: float = 0.15
    seed: int = 0
    lr: float = 1e-3
    muon_lr: float = 2e-3
    vision_lr: float = 0.3
    dense_weight: float = 0.5
    look_weight: float = 0.5
    mask_token_weight: float = 0.5
    mask_loss_weight: float = 0.5
    mask_loss_from: float = 0.3
    mask_loss_masks: int = 10
    mask_loss_levels: int = 2


def branch_hidden_states(
    model: HimtokForConditionalGeneration, visual: torch.Tensor, prefix_ids: list[int], branches: list[Branch]
) -> list[tuple[list[Branch], torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Run the conversations of a batch, each on the cache of its own picture.

    Args:
        visual: (B, P, D) visual tokens. prefix_ids: what comes before every first question.

    Returns:
        Groups of branches of about the same length with their hidden states (b, T, D): the last, those
        halfway up, and those below the last layer.
    """
    language, device = model.model.language_model, visual.device
    ids = torch.tensor(prefix_ids, device=device)
    embeds = language.embed_tokens(ids).expand(len(visual), -1, -1)
    embeds = embeds.masked_scatter((ids == model.config.image_token_id)[None, :, None], visual)
    shared = language(inputs_embeds=embeds, use_cache=True, past_key_values=DynamicCache()).past_key_values
    ordered = sorted(branches, key=lambda branch: len(branch.ids))
    groups = []
    for part in np.array_split(np.arange(len(ordered)), min(6, len(ordered))):
        group = [ordered[i] for i in part]
        longest = max(len(branch.ids) for branch in group)
        ids = torch.zeros(len(group), longest, dtype=torch.int64)
        mask = torch.zeros(len(group), len(prefix_ids) + longest, dtype=torch.int64)
        for row, branch in enumerate(group):
            ids[row, : len(branch.ids)] = torch.tensor(branch.ids)
            mask[row, : len(prefix_ids) + len(branch.ids)] = 1
        scenes = torch.tensor([branch.scene for branch in group], device=device)
        cache = DynamicCache()
        for index, layer in enumerate(shared.layers):
            cache.update(layer.keys[scenes], layer.values[scenes], index)
        out = language(
            inputs_embeds=language.embed_tokens(ids.to(device)),
            attention_mask=mask.to(device),
            past_key_values=cache,
            output_hidden_states=True,
        )
        depths = out.hidden_states
        groups.append((group, out.last_hidden_state, depths[len(language.layers) // 2], depths[-2]))
    return groups


def token_losses(
    model: HimtokForConditionalGeneration, groups: list, numbers: torch.Tensor, mask_token_weight: float
) -> tuple[torch.Tensor, dict[str, float]]:
    """Next-token loss: the words' and numbers' sum over the conversations, plus the mask tokens'.

    Coarse tokens count more than fine ones: the weight of a run's token n is 1 / (1 + n / 8). A coordinate's
    label is spread over its neighbours, since a box that is one pixel off is hardly wrong.

    Args:
        numbers: int64 (1003,), the token ids of the numbers 0 to 1000, of `<box>` and of `</box>`.
    """
    numbers, box_start, box_end = numbers[:-2], numbers[-2].item(), numbers[-1].item()
    config = model.config
    hidden, wanted, weights, inside_box = [], [], [], []
    for group, states, _, _ in groups:
        for row, branch in enumerate(group):
            labels = torch.tensor(branch.labels)
            spoken = (labels != IGNORE).nonzero()[:, 0]  # never the first place of a branch
            weight = torch.ones(len(labels))
            for start, length, _ in branch.runs:
                weight[start : start + length] = mask_token_weight / (1 + torch.arange(length) / 8)
            hidden.append(states[row, spoken - 1])
            wanted.append(labels[spoken])
            weights.append(weight[spoken])
            inside = (labels == box_start).cumsum(0) > (labels == box_end).cumsum(0)
            inside_box.append(inside[spoken])
    hidden = torch.cat(hidden)
    wanted, weights, inside_box = (torch.cat(x).to(hidden.device) for x in (wanted, weights, inside_box))
    logits = model.lm_head(hidden)
    loss = F.cross_entropy(logits, wanted, reduction="none")
    coordinates = (wanted[:, None] == numbers) & inside_box[:, None]
    place, value = coordinates.nonzero(as_tuple=True)
    if len(place):
        scale = torch.arange(len(numbers), device=value.device)
        spread = (-0.5 * ((scale - value[:, None]) / NUMBER_SPREAD) ** 2).softmax(-1)
        logs = logits[place].log_softmax(-1)[:, numbers]
        loss = loss.index_put((place,), -(spread * logs).sum(-1))
    masks = (wanted >= config.first_mask_id) & (wanted <= config.last_mask_id)
    conversations = sum(len(group) for group, _, _, _ in groups)
    shown = {"words": loss[~masks].sum().item() / conversations}
    if masks.any():
        first = masks & ~masks.roll(1)
        shown |= {"mask_tokens": loss[masks].mean().item(), "first_mask_token": loss[first].mean().item()}
    return (loss * weights).sum() / (4 * conversations), shown


def looking_loss(
    heads: DenseHeads, groups: list, visual: torch.Tensor, targets: DenseTargets
) -> tuple[torch.Tensor, dict[str, float]]:
    """While it answers, the model should look at what it talks about and know where that ends.

    `DenseHeads.looking` on the states halfway up, over all answers; and the box around the objects, read off
    the states below the last layer.
    """
    states, later, scenes, wanted, boxes = [], [], [], [], []
    for group, _, halfway, below in groups:
        for row, branch in enumerate(group):
            for start, end, objects in branch.looks:
                chosen = torch.tensor(objects, device=visual.device)
                patches = torch.isin(targets.owner[branch.scene], chosen)
                if patches.any():
                    states.append(halfway[row, start - 1 : end - 1])
                    later.append(below[row, start - 1 : end - 1])
                    scenes += [branch.scene] * (end - start)
                    wanted.append(patches.expand(end - start, -1))
                    around = targets.boxes[chosen]
                    box = torch.cat([around[:, :2].amin(0), around[:, 2:].amax(0)])
                    boxes.append(box.expand(end - start, -1))
    if not states:
        return visual.new_zeros(()), {}
    chosen = torch.tensor(scenes, device=visual.device)
    looking, right = heads.looking(
        torch.cat(states), visual[chosen], targets.owner[chosen], torch.cat(wanted)
    )
    distance = F.l1_loss(heads.answer_box(torch.cat(later)).sigmoid(), torch.cat(boxes))
    return looking + 5 * distance, {"looks": right, "answer_box_l1": distance.item()}


def hierarchical_mask_loss(
    model: HimtokForConditionalGeneration,
    groups: list,
    masks: torch.Tensor,
    settings: Settings,
    generator: torch.Generator,
) -> torch.Tensor:
    """The paper's loss on de-tokenised masks: all 32 tokens, and random prefixes against blurred labels.

    Args:
        masks: (M, S, S) that `Branch.runs` refers to. generator: chooses the masks and the prefixes.
    """
    found = [
        (states[row, start - 1 : start + 31], index)
        for group, states, _, _ in groups
        for row, branch in enumerate(group)
        for start, length, index in branch.runs
        if length == 32
    ]
    if not found:
        return masks.new_zeros(())
    order = torch.randperm(len(found), generator=generator)[: settings.mask_loss_masks].tolist()
    states = torch.stack([found[i][0] for i in order])  # (m, 32, D)
    target = masks[[found[i][1] for i in order]]
    rows = model.lm_head.weight[model.config.first_mask_id : model.config.last_mask_id + 1]
    probabilities = (2 * states @ rows.T).softmax(-1)  # the sharpening that decoding uses
    codes = model.mask_tokenizer.quantize.expectation(probabilities)
    levels = sample_levels(generator, len(order) * settings.mask_loss_levels).to(masks.device)
    lengths = torch.cat([torch.full((len(order),), 32, device=masks.device), levels])
    target = grained_labels(target.repeat(1 + settings.mask_loss_levels, 1, 1), lengths)
    logits = model.mask_tokenizer.draw_logits(codes.repeat(1 + settings.mask_loss_levels, 1, 1), lengths)
    return mask_loss(logits, target, dice_weight=0.25)


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
        asked, seed = [], HELD_OUT_SEED + 50_000
        while len(asked) < count:
            scene = make_scene(seed, world)
            question = ask(scene, kind, np.random.default_rng(seed), world)
            if question is not None and not question.prompt_masks:
                asked.append((scene, question))
            seed += 1
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


def train(settings: Settings, folder: Path, minutes: float | None = None) -> None:
    """Train from the model in `settings.init`; model and processor go to `folder/model`."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = RunFolder(folder, asdict(settings), minutes)
    torch.manual_seed(settings.seed)
    world = World()
    names = {name: i for i, name in enumerate(world_names(world))}
    init = Path(settings.init)
    processor = HimtokProcessor.from_pretrained(init / "model")
    model = HimtokForConditionalGeneration.from_pretrained(init / "model", dtype=torch.float32).to(device)
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
    heads.load_state_dict(torch.load(init / "heads.pt", map_location=device, weights_only=True))
    codebook = model.mask_tokenizer.quantize.codebook()
    # What the run before has learned already: nothing of numbers after vision, nothing of mask tokens before
    # the stage with all tasks.
    before = json.loads((init / "settings.json").read_text(encoding="utf-8")).get("tasks")
    fresh = torch.full((len(processor.tokenizer),), before is None, device=device)
    fresh[model.config.first_mask_id : model.config.last_mask_id + 1] = before != "all"
    share_rows(model, row_features(processor, model.config, codebook.cpu()).to(device), fresh)
    model.to(device)
    processor.save_pretrained(folder / "model")
    numbers = [*(str(n) for n in range(1001)), "<box>", "</box>"]
    numbers = torch.tensor(processor.tokenizer.convert_tokens_to_ids(numbers), device=device)
    batches = ConversationBatches(
        processor,
        world,
        settings.scenes,
        settings.questions,
        TASKS[settings.tasks],
        settings.second_turn,
        settings.seed,
    )
    grid = round(model.config.image_seq_length**0.5)
    language = torch.nn.ModuleDict({"layers": model.model.language_model, "head": model.lm_head})
    vision = torch.nn.ModuleDict(
        {"tower": model.model.vision_tower, "projector": model.model.multi_modal_projector, "heads": heads}
    )
    matrices, others = split_for_muon(language, (".layers.",))
    seeing, seeing_others = split_for_muon(vision, ("encoder.layer.", "projector."))
    optimizers = [
        Muon(matrices, lr=settings.muon_lr),
        Muon(seeing, lr=settings.muon_lr * settings.vision_lr),
        torch.optim.AdamW(
            [{"params": others}, {"params": seeing_others, "lr": settings.lr * settings.vision_lr}],
            lr=settings.lr,
            betas=(0.9, 0.98),
            weight_decay=0.01,
        ),
    ]
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    first = 0
    if (state := run.load(device)) is not None:
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first = state["step"]

    model.train()
    for step in range(first, settings.steps):
        scenes, branches, masks = batches(step, model.mask_tokenizer)
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        targets = dense_targets(scenes, names, grid, mask_config.mask_size)
        for field in ("owner", "names", "boxes", "shapes", "masks"):
            setattr(targets, field, getattr(targets, field).to(device))
        visual = model.model.get_image_features(pixels(scenes, processor).to(device)).pooler_output
        codes = codebook[model.mask_tokenizer.encode(targets.masks)] if settings.tasks == "all" else None
        dense, dense_shown = heads(visual, targets, model.model.language_model.embed_tokens.weight, codes)
        groups = branch_hidden_states(model, visual, batches.writer.prefix_ids, branches)
        spoken, shown = token_losses(model, groups, numbers, settings.mask_token_weight)
        looking, looking_shown = looking_loss(heads, groups, visual, targets)
        loss = spoken + settings.dense_weight * dense + settings.look_weight * looking
        if settings.tasks == "all" and step >= settings.mask_loss_from * settings.steps:
            drawn = hierarchical_mask_loss(model, groups, masks, settings, generator)
            loss = loss + settings.mask_loss_weight * drawn
            shown["mask_loss"] = drawn.item()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for part in (language, vision) for p in part.parameters()], 1.0)
        factor = learning_rate(step, settings.steps, warmup=60)
        groups_of_lr = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, peak in zip(groups_of_lr, peaks, strict=True):
            group["lr"] = factor * peak
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        done = step + 1
        if done % 25 == 0:
            run.log(step=done, loss=loss.item(), **shown, **looking_shown, **dense_shown)
        last = done == settings.steps or run.out_of_time
        if done % 200 == 0 or last:
            model.eval()
            kinds = ["box"] if settings.tasks == "boxes" else ["box", "segment", "segment_then_box"]
            scores = generated_scores(model, processor, world, kinds)
            model.train()
            model.mask_tokenizer.eval()
            run.log(step=done, conversations=done * settings.scenes * settings.questions, **scores)
            optimizer_states = [optimizer.state_dict() for optimizer in optimizers]
            state = {"model": model.state_dict(), "heads": heads.state_dict(), "optimizers": optimizer_states}
            run.save({**state, "step": done})
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
    merged.save_pretrained(folder / "model")
    torch.save(heads.state_dict(), folder / "heads.pt")


def main(argv: list[str]) -> int:
    """`python -m himtok_core train lmm`: one JSON line with the last scores on standard output."""
    parser = argparse.ArgumentParser(prog="himtok_core train lmm", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an existing one goes on")
    parser.add_argument(
        "--init", required=True, help="folder of the run to start from (vision, or an earlier lmm)"
    )
    parser.add_argument("--mask-tokenizer", required=True, help="folder of a trained mask tokenizer")
    parser.add_argument("--tasks", choices=sorted(TASKS), default=Settings.tasks)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--scenes", type=int, default=Settings.scenes, help="pictures a batch")
    parser.add_argument("--questions", type=int, default=Settings.questions, help="conversations a picture")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--minutes", type=float, help="stop and save after so long")
    options = parser.parse_args(argv)
    settings = Settings(
        init=options.init,
        mask_tokenizer=options.mask_tokenizer,
        tasks=options.tasks,
        steps=options.steps,
        scenes=options.scenes,
        questions=options.questions,
        seed=options.seed,
    )
    train(settings, options.out, options.minutes)
    scores = [row for row in RunFolder(options.out, asdict(settings)).rows() if "box_box_iou" in row]
    print(json.dumps(scores[-1]))
    return 0
