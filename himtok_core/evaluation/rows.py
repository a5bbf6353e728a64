"""The rows of a run on disk, so that a run that was killed goes on where it stopped.

Knows files: `rows.jsonl` of the first process and `rows.N.jsonl` of the others, one JSON object a line with
the sample's "id", and `settings.json`, what the rows were made with. What is in a row is left to the tasks.
"""

import json
import math
from pathlib import Path

from ..errors import DataError

ROWS, SETTINGS = "rows.jsonl", "settings.json"


def read_rows(folder: Path) -> dict[str, dict]:
    """All rows of a run, of every process that took part, by id.

    A last line without its end was cut off by a kill and is not a row. Raises DataError for any other line
    that is not one.
    """
    rows: dict[str, dict] = {}
    for path in [folder / ROWS, *sorted(folder.glob("rows.*.jsonl"))]:
        for number, line in enumerate(_whole_lines(path), 1):
            try:
                row = json.loads(line)
                rows.setdefault(row["id"], row)
            except (json.JSONDecodeError, TypeError, KeyError) as error:
                raise DataError(
                    f"{path}, line {number}, is no row of a run. Remove the line, or use another --out."
                ) from error
    return rows


class RowWriter:
    """Appends the rows of one process.

    Args:
        folder: of the run. process: number of this process, from 0.
    """

    def __init__(self, folder: Path, process: int):
        self.path = folder / (f"rows.{process}.jsonl" if process else ROWS)
        whole = sum(len(line) for line in _whole_lines(self.path))
        if self.path.exists() and self.path.stat().st_size > whole:
            with self.path.open("r+b") as file:
                file.truncate(whole)

    def append(self, rows: list[dict]) -> None:
        """Adds rows; they are in the operating system's hands when this returns."""
        with self.path.open("ab") as file:
            file.write("".join(f"{to_json(row)}\n" for row in rows).encode())


def merge_rows(folder: Path, order: list[str]) -> list[dict]:
    """Puts the rows of all processes into one file, in the order of the samples, and returns those.

    Rows of samples that this run did not ask (it may have been limited) stay at the end of the file.
    """
    rows = read_rows(folder)
    asked = [rows[name] for name in order if name in rows]
    wanted = set(order)
    kept = [row for name, row in rows.items() if name not in wanted]
    whole = folder / f"{ROWS}.new"
    whole.write_text("".join(f"{to_json(row)}\n" for row in [*asked, *kept]), encoding="utf-8")
    whole.replace(folder / ROWS)
    for part in folder.glob("rows.*.jsonl"):
        part.unlink()
    return asked


def check_settings(folder: Path, settings: dict) -> None:
    """Remembers what a run's rows are made with, or makes sure that a resumed run makes them the same way.

    Raises DataError if the folder holds rows made with other settings.
    """
    path = folder / SETTINGS
    if path.exists():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DataError(f"{path} cannot be read: {error}. Use another --out.") from error
        now = json.loads(to_json(settings))
        names = sorted(name for name in {*earlier, *now} if earlier.get(name) != now.get(name))
        if names and read_rows(folder):
            changes = "; ".join(f"{name} was {earlier.get(name)!r}, now {now.get(name)!r}" for name in names)
            raise DataError(f"{folder} holds a run with other settings ({changes}). Use another --out.")
    path.write_text(to_json(settings, indent=1) + "\n", encoding="utf-8")


def to_json(value: object, indent: int | None = None) -> str:
    """JSON without NaN, which JSON does not have: null stands for it."""
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that have their end."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    return [line for line in lines if line.endswith(b"\n")]
