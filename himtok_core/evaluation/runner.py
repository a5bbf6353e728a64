"""Runs a benchmark: asks a model in batches, keeps rows on disk, sums up, writes the result files.

Knows processes, files and the order of work. Started by `accelerate launch`, every process asks its share of
the batches and the first one sums up. A run that was killed goes on with the samples that have no row yet.
What is asked and how it is scored is left to the task.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from PIL import Image
from tqdm import tqdm

from ..chat import Chat, load
from ..data.problems import DataProblems
from ..errors import DataError, HimtokError, PictureError, PromptError
from ..generation.loading import find_checkpoint
from ..images import open_picture
from ..markup import MAX_RUN
from ..refine import PictureEmbedding, SamRefiner, refine_reply
from ..reply import Reply
from . import page, provenance
from .rows import RowWriter, check_settings, merge_rows, read_rows, to_json
from .saved import SavedReplies, row_of_reply
from .task import REFERENCE, Sample, Task

SHOWN = 12  # worst and best cases on the page
# What may change between a killed run and the one that goes on without changing any row.
_FREE = {"model", "device", "batch", "out", "limit", "bad_data"}
# How long a process that is done waits for the slowest one; the library's own limit is ten minutes.
_PATIENCE = timedelta(hours=24)

Refine = Callable[[Image.Image, Reply], Reply]


def run(task: Task, options: argparse.Namespace) -> dict:
    """Runs a task with the options of its command line and writes `rows.jsonl`, `results.json`, `index.html`.

    Returns:
        What `results.json` holds; in all processes but the first an empty dict.

    Raises:
        DataError: the data cannot be used, or `options.out` holds a run made with other settings.
        CheckpointError, GenerationError: the model cannot be loaded or cannot go on; rows so far are kept.
    """
    if options.predictions is not None and options.refine is not None:
        raise DataError("Saved masks are scored as they are: leave out --refine, or --predictions.")
    if options.mask_tokens is not None and options.mask_tokens > MAX_RUN:
        raise DataError(f"A mask has 1 to {MAX_RUN} tokens, not {options.mask_tokens}.")
    began = time.perf_counter()
    state = PartialState(cpu=options.device == "cpu", timeout=_PATIENCE)
    problems = DataProblems(fatal=options.bad_data == "fail", quiet=not state.is_main_process)
    samples = _unique(itertools.islice(task.samples(options, problems), options.limit), problems)
    if not samples:
        raise DataError(f"{options.data} has no sample that can be used.")
    model = _model(options)
    settings = {
        "task": task.name,
        **{name: value for name, value in vars(options).items() if name not in _FREE},
        **model,
    }
    folder = Path(options.out)
    done = _prepare(folder, settings, state)
    todo = [sample for sample in samples if sample.id not in done]
    starts = range(0, len(todo), options.batch)
    batches = [todo[start : start + options.batch] for start in starts]
    batches = batches[state.process_index :: state.num_processes]
    writer = RowWriter(folder, state.process_index)
    source = _source(task, options, state, problems) if batches else None
    asked = sum(len(batch) for batch in batches)
    ready = time.perf_counter()
    with tqdm(total=asked, desc=task.name, unit="sample", disable=not state.is_main_process) as bar:
        for batch in batches:
            rows = [_row(task, sample, reply, options, problems) for sample, reply in source(batch)]
            writer.append([row for row in rows if row is not None])
            bar.update(len(batch))
    seconds = time.perf_counter() - ready
    lines, asked = _gathered(problems.lines, asked, state)
    state.wait_for_everyone()
    if not state.is_main_process:
        return {}
    rows = merge_rows(folder, [sample.id for sample in samples])
    if not rows:
        raise DataError(f"None of {len(samples)} samples could be scored. The first problem: {lines[0]}.")
    result = {
        "task": task.name,
        "scores": task.summary(rows, options.protocol),
        "samples": len(samples),
        "scored": len(rows),
        "protocol": options.protocol,
        "model": model,
        "settings": {name: value for name, value in vars(options).items() if name != "out"},
        "processes": state.num_processes,
        "asked_now": asked,
        "samples_per_second": asked / seconds if asked else None,
        "seconds": time.perf_counter() - began,
        "versions": provenance.versions(),
        "problems": lines,
    }
    (folder / "results.json").write_text(to_json(result, indent=1) + "\n", encoding="utf-8")
    (folder / "index.html").write_text(_page(task, result, rows, samples), encoding="utf-8")
    return result


def _unique(samples: Iterator[Sample], problems: DataProblems) -> list[Sample]:
    found: dict[str, Sample] = {}
    for sample in samples:
        if sample.id in found:
            problems.report(sample.where, f"the sample id {sample.id} comes twice")
        else:
            found[sample.id] = sample
    return list(found.values())


def _model(options: argparse.Namespace) -> dict:
    if options.predictions is not None:
        return {"name": str(options.predictions), "revision": None}
    return {"name": str(options.model), "revision": provenance.revision(find_checkpoint(options.model))}


def _prepare(folder: Path, settings: dict, state: PartialState) -> dict[str, dict]:
    """Makes the folder and reads the rows that are there already, before any process adds one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if state.is_main_process:
            check_settings(folder, settings)
        done = read_rows(folder)
    except OSError as error:
        raise DataError(f"The results cannot be written to {folder}: {error.strerror or error}.") from error
    state.wait_for_everyone()
    return done


Source = Callable[[Sequence[Sample]], Iterator[tuple[Sample, Reply]]]


def _source(
    task: Task, options: argparse.Namespace, state: PartialState, problems: DataProblems
) -> Source:
    """Where replies come from: a saved file or a model."""
    if options.predictions is not None:
        saved = SavedReplies(options.predictions, problems)
        return lambda batch: _saved(saved, batch, problems)
    device = options.device
    if device is None and state.num_processes > 1:
        device = str(state.device)
    chat = load(options.model, device, options.dtype, options.quantization, max_tiles=options.max_tiles)
    refine = None if options.refine is None else _refinement(options, chat.model.device)
    return lambda batch: _answered(task, chat, batch, options, problems, refine)


def _refinement(options: argparse.Namespace, device: torch.device) -> Refine:
    """SAM after the model: our own prompts, or in the reference's protocol its own, whose soft maps count."""
    refiner = SamRefiner.from_pretrained(options.refine, device)
    seen: list[tuple[Image.Image, PictureEmbedding]] = []  # the last picture, which often comes again

    def refine(picture: Image.Image, reply: Reply) -> Reply:
        if not seen or seen[0][0] is not picture:
            seen[:] = [(picture, refiner.embed(picture))]
        embedding = seen[0][1]
        if options.protocol != REFERENCE:
            return refine_reply(refiner, embedding, reply)
        objects = list(reply.objects)
        drawn = [place for place, item in enumerate(objects) if item.probability is not None]
        finer = refiner.refine(embedding, [objects[place].probability for place in drawn], REFERENCE)
        for place, new in zip(drawn, finer, strict=True):
            objects[place] = replace(objects[place], mask=new.mask, probability=new.probability)
        return replace(reply, objects=tuple(objects))

    return refine


def _saved(
    saved: SavedReplies, batch: Sequence[Sample], problems: DataProblems
) -> Iterator[tuple[Sample, Reply]]:
    for sample in batch:
        try:
            # Scoring saved masks needs no pictures; where a mask does not tell the size, the picture does.
            size = saved.size(sample.id) or _open(sample, {}).size
            yield sample, saved.reply(sample.id, size)
        except HimtokError as error:
            problems.report(sample.where, str(error))


def _answered(
    task: Task,
    chat: Chat,
    batch: Sequence[Sample],
    options: argparse.Namespace,
    problems: DataProblems,
    refine: Refine | None,
) -> Iterator[tuple[Sample, Reply]]:
    pictures, kept, opened = [], [], {}
    for sample in batch:
        try:
            pictures.append(_open(sample, opened))
            kept.append(sample)
        except PictureError as error:
            problems.report(sample.where, str(error))
    if not kept:
        return
    try:
        replies = task.answer(chat, pictures, kept, options)
    except (DataError, PromptError) as error:
        if len(kept) == 1:
            problems.report(kept[0].where, str(error))
            return
        for sample in kept:  # one of them cannot be asked: find it
            yield from _answered(task, chat, [sample], options, problems, refine)
        return
    for sample, picture, reply in zip(kept, pictures, replies, strict=True):
        yield sample, reply if refine is None or picture is None else refine(picture, reply)


def _open(sample: Sample, opened: dict[Path, Image.Image]) -> Image.Image | None:
    """The sample's picture; one that several samples of a batch share is decoded once."""
    if sample.picture is None:
        return None
    if not isinstance(sample.picture, Path):
        return open_picture(sample.picture)
    if sample.picture not in opened:
        opened[sample.picture] = open_picture(sample.picture)
    return opened[sample.picture]


def _row(
    task: Task, sample: Sample, reply: Reply, options: argparse.Namespace, problems: DataProblems
) -> dict | None:
    try:
        numbers = task.row(sample, reply, options.protocol)
    except HimtokError as error:
        problems.report(sample.where, str(error))
        return None
    prompt = None if sample.prompt is None else sample.prompt.text
    return {"id": sample.id, "prompt": prompt, **row_of_reply(reply), **numbers}


def _gathered(lines: list[str], asked: int, state: PartialState) -> tuple[list[str], int]:
    """The problems of all processes, each once, and how many samples all of them asked."""
    if state.num_processes == 1:
        return lines, asked
    together = gather_object([(line, 0) for line in lines] + [("", asked)])
    return list(dict.fromkeys(line for line, _ in together if line)), sum(count for _, count in together)


def _page(task: Task, result: dict, rows: list[dict], samples: Sequence[Sample]) -> str:
    by_id = {sample.id: sample for sample in samples}
    ordered = sorted(rows, key=lambda row: row["score"])
    worst = ordered[:SHOWN]
    best = ordered[len(worst) :][-SHOWN:][::-1]

    def cases(chosen: list[dict]) -> list[page.Case]:
        return [_case(task, row, by_id[row["id"]]) for row in chosen]

    facts = {
        **result["scores"],
        "samples": f"{result['scored']} of {result['samples']}",
        "left out": f"{len(result['problems'])} (named in results.json)",
        "protocol": result["protocol"],
        "model": f"{result['model']['name']}, {result['model']['revision']}",
    }
    return page.write(f"{task.name}: worst and best", facts, cases(worst), cases(best))


def _case(task: Task, row: dict, sample: Sample) -> page.Case:
    try:
        picture = _open(sample, {})
    except PictureError:
        picture = None  # saved masks can be scored without the pictures
    return page.Case(row, picture, task.truth_masks(sample))

