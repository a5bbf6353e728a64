"""Dense pretraining of the vision tower on scenes, before the language model learns to look.

Small batches of conversations alone do not teach a model of this size where things are; patches that already
look like words do.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ..data.follow_ups import MOST_TURNS, converse
from ..data.questions import ask_some
from ..data.scenes import HELD_OUT_SEED, make_scene
from ..data.world import WORLDS, World
from ..lmm import HimtokForConditionalGeneration, HimtokProcessor
from .command import run_recipe
from .dense import DenseHeads
from .mini import SIZES, build_config, build_model, build_processor
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
from .scene_batches import PatchBatches, normalised, world_names


@dataclass(frozen=True)
class Settings:
    """Of one run; saved with its weights.

    With `schedule_minutes` it ends after so long instead of after `steps`, and its schedule follows the
    clock.
    """

    steps: int = 3000
    schedule_minutes: float | None = None
    scenes: int = 24
    seed: int = 0
    lr: float = 1e-3
    muon_lr: float = 2e-3
    world: str = "mini"


def vocabulary_texts(world: World, scenes: int = 1500) -> list[str]:
    """What people ask and the model answers, for the vocabulary; every name of the world among it."""
    rng = np.random.default_rng(0)
    texts = []
    for seed in range(scenes):
        scene = make_scene(seed, world)
        for question in [*ask_some(scene, rng, world, 12), *converse(scene, rng, world, MOST_TURNS)]:
            texts += [question.prompt, question.answer]
    names = [*world_names(world), *(s for concept in world.concepts for s in concept.synonyms)]
    return texts + [f"{form}{name}" for name in names for form in ("", "a ", "a ")] * 2


def name_token_ids(processor: HimtokProcessor, world: World) -> list[list[int]]:
    """Token ids of each name as it stands inside `<ref>` tags."""
    return [processor.tokenizer(name, add_special_tokens=False)["input_ids"] for name in world_names(world)]


@reproducible()
def train(settings: Settings, folder: Path, minutes: float | None = None) -> None:
    """Train; the model (language model untrained) and its processor go to `folder/model`."""
    device = training_device()
    run = RunFolder(folder, asdict(settings), minutes)
    torch.manual_seed(settings.seed)
    world, sizes = WORLDS[settings.world](), SIZES[settings.world]
    if (folder / "model").exists():
        processor = HimtokProcessor.from_pretrained(folder / "model")
    else:
        processor = build_processor(vocabulary_texts(world), sizes)
    mask_config = sizes.mask_tokenizer
    model = build_model(build_config(processor, mask_config, sizes)).to(device)
    processor.save_pretrained(folder / "model")
    width = model.config.text_config.hidden_size
    codes = mask_config.num_latent_tokens * mask_config.token_size
    heads = DenseHeads(width, name_token_ids(processor, world), codes).to(device)
    embedding = model.model.language_model.embed_tokens.weight
    grid = round(model.config.image_seq_length**0.5)

    parts = torch.nn.ModuleDict(
        {"tower": model.model.vision_tower, "projector": model.model.multi_modal_projector, "heads": heads}
    )
    matrices, others = split_for_muon(parts, ("encoder.layer.", "projector."))
    optimizers = Optimizers(
        Muon(matrices, lr=settings.muon_lr),
        torch.optim.AdamW([*others, embedding], lr=settings.lr, betas=(0.9, 0.99), weight_decay=0.01),
    )
    first = 0
    if (state := run.load(device)) is not None:
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        optimizers.load_state_dict(state["optimizers"])
        first = state["step"]

    batches = PatchBatches(processor, world, settings.scenes, settings.seed, grid, mask_config.mask_size)
    held_out = batches.of([make_scene(HELD_OUT_SEED + seed, world) for seed in range(96)])
    held_out = held_out[0].to(device), held_out[1].to(device)
    for step, batch in enumerate(run.timed(prefetch(batches, first, run.steps)), start=first):
        progress = run.progress(step)
        pixels, targets = (x.to(device) for x in batch)
        with quick_products():
            visual = model.model.get_image_features(normalised(pixels)).pooler_output  # (B, P, D)
            loss, shown = heads(visual, targets, embedding, None)
        loss.backward()
        optimizers.step(parts.parameters(), learning_rate(step, progress, warmup=100))
        done = step + 1
        if done % 25 == 0:
            run.log(step=done, loss=loss.item(), **{name: part.item() for name, part in shown.items()})
        last = run.is_over(done)
        if run.scores_after(done) or last:
            model.eval()
            with torch.no_grad():
                visual = model.model.get_image_features(normalised(held_out[0])).pooler_output
                _, shown = heads(visual, held_out[1], embedding, None)
            model.train()
            held = {f"held_{name}": part.item() for name, part in shown.items()}
            run.log(step=done, samples=done * settings.scenes, **held)
            state = {"model": model.state_dict(), "heads": heads.state_dict()}
            run.save({**state, "optimizers": optimizers.state_dict(), "step": done})
            save(model, heads, folder)
        if last:
            break


def save(model: HimtokForConditionalGeneration, heads: DenseHeads, folder: Path) -> None:
    """Weights for the next stage: the model and the heads on its visual tokens."""
    model.save_pretrained(folder / "model")
    torch.save(heads.state_dict(), folder / "heads.pt")


def main(argv: list[str]) -> int:
    """`python -m himtok_core train vision`."""
    flags = {
        "steps": {"help": "optimizer steps"},
        "scenes": {"help": "pictures a step"},
        "seed": {"help": "of weights and batches"},
        "world": {"help": "what scenes are made of", "choices": sorted(WORLDS)},
    }
    return run_recipe("vision", __doc__.splitlines()[0], Settings, train, flags, argv)
