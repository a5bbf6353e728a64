"""The example pictures: where they are and what is known about each of them."""

import json
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "assets" / "examples"


@dataclass(frozen=True)
class Example:
    """path: the picture's file. names: what can be asked for in it, each once, in the order of the truth."""

    path: Path
    names: tuple[str, ...]


def load_examples(folder: Path = EXAMPLES) -> tuple[Example, ...]:
    """Every picture that `truth.json` in the folder names, in its order."""
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    return tuple(
        Example(folder / file, tuple(dict.fromkeys(item["name"] for item in objects)))
        for file, objects in truth.items()
    )
