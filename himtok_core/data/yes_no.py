"""Questions that yes or no answers: POPE and MME, in the layouts they are published in.

Knows the files of both data sets. How a question is put to a model and what an answer is worth is left to
`evaluation`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .coco import read_lines
from .pictures import find_picture, picture_folder
from .problems import DataProblems

POPE_SPLITS = ("random", "popular", "adversarial")
MME_PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
MME_COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
MME_TASKS = MME_PERCEPTION + MME_COGNITION
_SUFFIXES = (".jpg", ".png", ".jpeg", ".JPG", ".PNG")
_WORDS = {"yes": True, "no": False}


@dataclass(frozen=True)
class YesNoQuestion:
    """A question about a picture.

    Attributes:
        id: unique in the data set.
        group: POPE's split or MME's sub-task.
        picture: its file, which exists.
        text: the question as published.
        yes: whether yes is the right answer.
        where: file and line.
    """

    id: str
    group: str
    picture: Path
    text: str
    yes: bool
    where: str


def read_pope(data: Path, pictures: Path | None, problems: DataProblems) -> Iterator[YesNoQuestion]:
    """POPE: lines of {"question_id", "image", "text", "label"} in `coco_pope_SPLIT.json`.

    Args:
        data: one such file, or the folder of all three, or the folder above it if it is called `coco`.
        pictures: the folder of COCO's val2014 pictures; by default `val2014` in or above `data`.
        problems: gets what cannot be used.

    Raises:
        DataError: if there is no such file or no folder of pictures.
    """
    if data.is_file():
        files = [data]
    else:
        folder = data / "coco" if (data / "coco").is_dir() else data
        files = [folder / f"coco_pope_{split}.json" for split in POPE_SPLITS]
        files = [file for file in files if file.is_file()]
        if not files:
            raise DataError(f"There is no coco_pope_random.json, ..._popular or ..._adversarial in {folder}.")
    above = files[0].resolve().parent
    folder = picture_folder(pictures, [above / "val2014", above.parent / "val2014"])
    for file in files:
        split = file.stem.removeprefix("coco_pope_")
        for where, item in read_lines(file, problems):
            match item:
                case {"question_id": number, "image": str(image), "text": str(text), "label": str(label)}:
                    name = f"{split}:{number}"
                    yield from _question(name, split, image, text, label, where, [folder], problems)
                case _:
                    problems.report(where, 'the line needs "question_id", "image", "text" and "label"')


def read_mme(data: Path, pictures: Path | None, problems: DataProblems) -> Iterator[YesNoQuestion]:
    """MME, sub-task by sub-task, in either of two layouts.

    As published: a folder for each sub-task with a text file for each picture, which holds lines
    `question<TAB>answer`; files and pictures lie side by side, or in `questions_answers_YN` and `images`. As
    lists: `SUB-TASK.txt` with lines `picture<TAB>question<TAB>answer`.

    Args:
        data: the folder of the sub-tasks, or of the lists.
        pictures: for lists, the folder that has a folder of pictures for each sub-task; by default `data`.
        problems: gets what cannot be used.

    Raises:
        DataError: if `data` has no sub-task in it.
    """
    found = False
    for task in MME_TASKS:
        listed = data / f"{task}.txt"
        if listed.is_file():
            found = True
            folder = (pictures or data) / task
            yield from _listed(task, listed, [folder, folder / "images"], problems)
        elif (data / task).is_dir():
            found = True
            yield from _published(task, data / task, problems)
    if not found:
        raise DataError(f"{data} holds no sub-task of MME: neither existence/ nor existence.txt, and so on.")


def _published(task: str, folder: Path, problems: DataProblems) -> Iterator[YesNoQuestion]:
    asked, shown = folder / "questions_answers_YN", folder / "images"
    if not asked.is_dir():
        asked = shown = folder
    for file in sorted(asked.glob("*.txt")):
        image = next((file.stem + end for end in _SUFFIXES if (shown / (file.stem + end)).is_file()), None)
        if image is None:
            problems.report(f"{task}/{file.name}", f"there is no picture {file.stem}.jpg or .png in {shown}")
            continue
        for number, line in _lines(file):
            where = f"{task}/{file.name}:{number}"
            match line.split("\t"):
                case [text, label]:
                    name = f"{task}/{image}:{number}"
                    yield from _question(name, task, image, text, label, where, [shown], problems)
                case _:
                    problems.report(where, "the line should be a question, a tab and Yes or No")


def _listed(task: str, file: Path, folders: list[Path], problems: DataProblems) -> Iterator[YesNoQuestion]:
    for number, line in _lines(file):
        where = f"{file.name}:{number}"
        match line.split("\t"):
            case [image, text, label, *_]:
                name = f"{task}/{image}:{number}"
                yield from _question(name, task, image, text, label, where, folders, problems)
            case _:
                problems.report(where, "the line should be a picture, a question and Yes or No, with tabs")


def _question(
    name: str,
    group: str,
    image: str,
    text: str,
    label: str,
    where: str,
    folders: list[Path],
    problems: DataProblems,
) -> Iterator[YesNoQuestion]:
    """One question, or none and a problem."""
    picture = find_picture(image, folders)
    if picture is None:
        problems.report(where, f"there is no picture {image} in {folders[0]}")
    elif not text.strip():
        problems.report(where, "the question is empty")
    elif label.strip().lower() not in _WORDS:
        problems.report(where, f"the answer should be yes or no, not {label.strip()!r}")
    else:
        yield YesNoQuestion(name, group, picture, text.strip(), _WORDS[label.strip().lower()], where)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        text = file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}.") from error
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
