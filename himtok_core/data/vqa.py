"""VQAv2: open questions about COCO pictures with ten people's answers each.

Knows the published JSON files and the JSON Lines that other evaluations convert the questions to. How answers
are compared is left to `evaluation`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .coco import read_json, read_lines
from .pictures import find_picture, picture_folder
from .problems import DataProblems

ANNOTATIONS = "v2_mscoco_val2014_annotations.json"


@dataclass(frozen=True)
class OpenQuestion:
    """A question about a picture.

    Attributes:
        id: the data set's "question_id".
        picture: its file, which exists.
        text: the question.
        answers: what people answered, not empty.
        kind: "yes/no", "number" or "other".
        where: file and line, or file and id.
    """

    id: str
    picture: Path
    text: str
    answers: tuple[str, ...]
    kind: str
    where: str


def read_vqa(
    questions: Path, annotations: Path | None, pictures: Path | None, problems: DataProblems
) -> Iterator[OpenQuestion]:
    """All questions of a file, in its order.

    Args:
        questions: `v2_OpenEnded_mscoco_val2014_questions.json`, or JSON Lines of {"question_id", "question",
            "image"}.
        annotations: `v2_mscoco_val2014_annotations.json`; by default the file of this name beside
            `questions`.
        pictures: the folder of the pictures; by default `val2014` (or whatever `questions` names) beside it.
        problems: gets what cannot be used.

    Raises:
        DataError: if a file or the folder is missing or of another layout.
    """
    truths = _answers(annotations or questions.parent / ANNOTATIONS)
    if questions.suffix == ".jsonl":
        folder = picture_folder(pictures, [questions.parent / "val2014", questions.parent])
        items = read_lines(questions, problems)
    else:
        match read_json(questions):
            case {"questions": list(entries), **rest}:
                subset = str(rest.get("data_subtype", "val2014"))
            case _:
                raise DataError(f'{questions} is no file of VQA questions: it needs the list "questions".')
        folder = picture_folder(pictures, [questions.parent / subset])
        items = _published(questions, entries, subset)
    for where, item in items:
        match item:
            case {"question_id": int(number), "question": str(text), "image": str(image)} if text.strip():
                picture = find_picture(image, [folder])
            case _:
                problems.report(where, 'it needs "question_id", "question" and the picture')
                continue
        if picture is None:
            problems.report(where, f"there is no picture {image} in {folder}")
        elif number not in truths:
            problems.report(where, f"question {number} has no answers in the annotations")
        else:
            kind, answers = truths[number]
            yield OpenQuestion(str(number), picture, text.strip(), answers, kind, where)


def _published(file: Path, entries: list, subset: str) -> Iterator[tuple[str, dict]]:
    """Questions with the place and the name of the picture, which the published file leaves to its number."""
    for place, entry in enumerate(entries, 1):
        match entry:
            case {"image_id": int(number)}:
                where = f"{file.name}: question {entry.get('question_id')}"
                yield where, {**entry, "image": f"COCO_{subset}_{number:012d}.jpg"}
            case _:
                yield f"{file.name}: entry {place}", {}


def _answers(file: Path) -> dict[int, tuple[str, tuple[str, ...]]]:
    """"question_id" -> kind and what people answered."""
    match read_json(file):
        case {"annotations": list(entries)}:
            pass
        case _:
            raise DataError(f'{file} is no file of VQA answers: it needs the list "annotations".')
    found = {}
    for entry in entries:
        match entry:
            case {"question_id": int(number), "answers": [_, *_] as answers}:
                given = [answer.get("answer") for answer in answers if isinstance(answer, dict)]
                if all(isinstance(answer, str) for answer in given) and len(given) == len(answers):
                    found[number] = (str(entry.get("answer_type", "other")), tuple(given))
    return found
