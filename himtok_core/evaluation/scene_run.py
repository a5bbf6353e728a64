"""`python -m himtok_core evaluate scenes`: one run from the held-out questions to the tables and files.

Knows the order of things; each step is in a module of its own.
"""

import itertools
import math
import sys
from pathlib import Path

from ..chat import load
from ..data.photo_masks import DEFAULT_FILE, read_photo_masks
from ..data.world import WORLDS, World
from ..errors import DataError
from ..refine import SamRefiner
from . import report, scenes
from .bars import bars
from .scene_questions import UNSEEN, held_out_follow_ups, held_out_questions, unseen_drawings
from .scene_tokenizer import round_trip, scene_masks

_TIMED = 25  # replies with a mask, asked one at a time
_SEGMENT_WEIGHT = 5  # what segmenting by name counts for in `held_out_questions`


def run(
    model: str,
    device: str | None,
    world: str,
    count: int,
    seed: int,
    batch: int,
    refine: str | None,
    out: Path | None,
) -> None:
    """Measures a model and prints the tables.

    Args:
        model: folder or hub id. world: name of what scenes are made of. count: about how many questions stand
            alone; others are asked in proportion. seed: of the first scene. batch: questions asked at once.
        refine: a SAM that draws every mask anew before it is scored, or None.
        out: folder for results.json and worst/*.png, or None.

    Raises:
        DataError: if the results cannot be written.
    """
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"The results cannot be written to {out}: {error}") from error
    chat = load(model, device=device)
    refiner = None if refine is None else SamRefiner.from_pretrained(refine, device)
    everything = WORLDS[world]()
    known = scenes.world_of(chat.concepts, everything)
    drawn = round_trip(chat.mask_tokenizer, scene_masks(known, max(20, count // 2), seed))
    photos = round_trip(chat.mask_tokenizer, read_photo_masks(DEFAULT_FILE, held_out=True))
    print(f"tokenizer: {drawn.count} + {photos.count} masks done", file=sys.stderr)
    each = max(1, round(count / 50))
    asked = itertools.chain(
        held_out_questions(known, count, seed),
        held_out_follow_ups(known, each, seed),
        unseen_drawings(known, _SEGMENT_WEIGHT * each, seed),
    )
    outcomes: list[scenes.Outcome] = []
    for outcome in scenes.answer_all(chat, asked, batch, refiner):
        outcomes.append(outcome)
        if len(outcomes) % 100 == 0:
            print(f"questions: {len(outcomes)} done", file=sys.stderr)
            scenes.forget_pictures(outcomes)
    timed = (item for item in held_out_questions(known, 4 * _TIMED, seed) if item.question.kind == "segment")
    seconds = scenes.reply_seconds(chat, itertools.islice(timed, _TIMED))
    folder = Path(model)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else math.nan
    kinds = scenes.summarise(outcomes)
    reached = bars(outcomes, drawn, photos, seconds, size)
    print(report.markdown(reached, kinds, drawn, photos))
    refined = "" if refiner is None else f", masks refined by {refiner.name}"
    print(f"\n{len(outcomes)} questions about scenes of the world {world!r} from seed {seed}{refined}.")
    if out is not None:
        header = {"model": chat.name, "world": world, "count": len(outcomes), "seed": seed, "refine": refine}
        report.write_json(out / "results.json", header, outcomes, reached, kinds, drawn, photos)
        worlds = {"": known, **{group: World.full(drawings) for group, drawings in UNSEEN.items()}}
        report.write_worst(out / "worst", outcomes, worlds)
