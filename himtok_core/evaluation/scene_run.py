"""`python -m himtok_core evaluate scenes`: one run from the held-out questions to the tables and files.

Knows the order of things; each step is in a module of its own. Replies are kept on disk as they come, so that
a run that was killed goes on where it stopped; several processes share the questions.
"""

import itertools
import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from accelerate import PartialState
from tqdm import tqdm

from ..chat import Chat, load
from ..data.mask_questions import MAX_TOKENS
from ..data.photo_masks import DEFAULT_FILE, read_photo_masks
from ..data.problems import DataProblems
from ..data.world import WORLDS, World
from ..errors import DataError
from ..generation.loading import find_checkpoint
from ..refine import SamRefiner
from . import page, provenance, report, scenes
from .bars import bars
from .rows import ROWS, RowWriter, check_settings, merge_rows, read_rows
from .saved import SavedReplies, row_of_reply
from .scene_questions import SHARES, UNSEEN, Asked, held_out_follow_ups, held_out_questions, unseen_drawings
from .scene_tokenizer import prefix_scores, round_trip, scene_masks

_SHOWN = 12  # worst and best cases on the page
_TIMED = 25  # replies with a mask, asked one at a time


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
        out: folder for rows.jsonl, results.json, lengths.svg, index.html and worst/*.png; without it
            nothing is kept.

    Raises:
        DataError: if the results cannot be written, or `out` holds a run with other settings.
    """
    state = PartialState(cpu=device == "cpu")
    if out is None and state.num_processes > 1:
        raise DataError("Several processes meet in a folder: name one with --out.")
    with tempfile.TemporaryDirectory() if out is None else nullcontext(out) as folder:
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"The results cannot be written to {out}: {error}") from error
        settings = {"task": "scenes", "world": world, "count": count, "seed": seed, "refine": refine}
        settings |= {"model": model, "revision": provenance.revision(find_checkpoint(model))}
        if state.is_main_process:
            check_settings(folder, settings)
        chat = load(model, device=device or (str(state.device) if state.num_processes > 1 else None))
        refiner = None if refine is None else SamRefiner.from_pretrained(refine, chat.model.device)
        known = scenes.world_of(chat.concepts, WORLDS[world]())
        names = _answer(chat, known, count, seed, batch, refiner, folder, state)
        if not state.is_main_process:
            return
        merge_rows(folder, names)
        _report(chat, known, settings, folder, None if out is None else folder)


def _questions(known: World, count: int, seed: int) -> Iterator[tuple[str, Asked]]:
    """Every question with its name, the same ones for the same arguments."""
    each = max(1, round(count / sum(SHARES.values())))
    asked = itertools.chain(
        held_out_questions(known, count, seed),
        held_out_follow_ups(known, each, seed),
        unseen_drawings(known, SHARES["segment"] * each, seed),
    )
    for number, item in enumerate(asked):
        yield f"{number} {item.question.kind} {item.group}".strip(), item


def _answer(
    chat: Chat,
    known: World,
    count: int,
    seed: int,
    batch: int,
    refiner: SamRefiner | None,
    folder: Path,
    state: PartialState,
) -> list[str]:
    """Asks what has no row yet, this process its share -> the names of all questions."""
    state.wait_for_everyone()  # until the first process has looked at the folder
    done, names, mine = read_rows(folder), [], []

    def share() -> Iterator[Asked]:
        for number, (name, item) in enumerate(_questions(known, count, seed)):
            names.append(name)
            if name not in done and number % state.num_processes == state.process_index:
                mine.append(name)
                yield item

    writer = RowWriter(folder, state.process_index)
    answered = scenes.answer_all(chat, share(), batch, refiner)
    with tqdm(answered, desc="scenes", unit="question", disable=not state.is_main_process) as replies:
        for number, (_, reply) in enumerate(replies):
            writer.append([{"id": mine[number], **row_of_reply(reply)}])
    state.wait_for_everyone()
    return names


def _report(chat: Chat, known: World, settings: dict, folder: Path, out: Path | None) -> None:
    """Scores what is on disk, measures the mask tokenizer and the time of replies, and says it all."""
    count, seed = settings["count"], settings["seed"]
    drawn = round_trip(chat.mask_tokenizer, scene_masks(known, max(20, count // 2), seed))
    photos = round_trip(chat.mask_tokenizer, read_photo_masks(DEFAULT_FILE, held_out=True))
    print(f"tokenizer: {drawn.count} + {photos.count} masks done", file=sys.stderr)
    saved = SavedReplies(folder / ROWS, DataProblems(fatal=True))
    outcomes: list[scenes.Outcome] = []
    scores: dict[str, float] = {}
    runs: list[tuple[tuple[int, ...], np.ndarray]] = []
    for name, item in _questions(known, count, seed):
        reply = saved.reply(name, item.scene.size)
        outcomes.append(scenes.score(item, reply))
        if item.question.kind == "segment" and not item.group:
            whole = [found.tokens for found in reply.objects if len(found.tokens) == MAX_TOKENS]
            runs += [(tokens, item.question.answer_masks[0]) for tokens in whole[:1]]
        scores[name] = outcomes[-1].score
        if len(outcomes) % 100 == 0:
            scenes.forget_pictures(outcomes)
    answers = prefix_scores(chat.mask_tokenizer, runs)
    timed = (item for item in held_out_questions(known, 4 * _TIMED, seed) if item.question.kind == "segment")
    seconds = scenes.reply_seconds(chat, itertools.islice(timed, _TIMED))
    model = Path(settings["model"])
    size = sum(p.stat().st_size for p in model.rglob("*") if p.is_file()) if model.is_dir() else math.nan
    kinds = scenes.summarise(outcomes)
    reached = bars(outcomes, drawn, photos, seconds, size)
    print(report.markdown(reached, kinds, drawn, photos, answers))
    refined = "" if settings["refine"] is None else f", masks refined by {settings['refine']}"
    world = settings["world"]
    print(f"\n{len(outcomes)} questions about scenes of the world {world!r} from seed {seed}{refined}.")
    if out is not None:
        header = {**settings, "count": len(outcomes), "versions": provenance.versions()}
        report.write_json(out / "results.json", header, outcomes, reached, kinds, drawn, photos, answers)
        picture = report.length_chart(report.by_length(drawn, photos, answers))
        (out / "lengths.svg").write_text(picture, encoding="utf-8")
        worlds = {"": known, **{group: World.full(drawings) for group, drawings in UNSEEN.items()}}
        report.write_worst(out / "worst", outcomes, worlds)
        facts = {bar.what: f"{bar.value:.4g} {bar.unit}" for bar in reached if bar.met is not None}
        text = _page(known, settings, folder, scores, facts)
        (out / "index.html").write_text(text, encoding="utf-8")


def _page(known: World, settings: dict, folder: Path, scores: dict[str, float], facts: dict) -> str:
    """The worst and the best cases; their scenes are drawn once more."""
    ordered, rows = sorted(scores, key=scores.get), read_rows(folder)
    worst = ordered[:_SHOWN]
    best = ordered[len(worst) :][-_SHOWN:][::-1]
    cases = {}
    for name, item in _questions(known, settings["count"], settings["seed"]):
        if name in worst or name in best:
            row = {**rows[name], "prompt": item.question.prompt, "score": scores[name]}
            row |= {"kind": item.question.kind, "expected": item.question.answer}
            cases[name] = page.Case(row, item.scene.picture, item.question.answer_masks)
    facts |= {"model": f"{settings['model']}, {settings['revision']}", "refined by": settings["refine"]}
    chosen = ([cases[name] for name in part] for part in (worst, best))
    return page.write("scenes: worst and best", facts, *chosen)
