"""`python -m himtok_core train RECIPE`: settings from the command line, the last scores as a JSON line."""

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path

from .run_folder import read_rows


def run_recipe(
    name: str,
    about: str,
    settings: type,
    train: Callable[[object, Path, float | None], object],
    flags: dict[str, dict],
    argv: list[str],
) -> int:
    """Parse the arguments, train, and print the run's last row of scores on standard output.

    Args:
        name: of the recipe. about: what it does, one line. settings: dataclass of the run's settings.
        train: takes settings, folder and a limit in minutes, and logs scores with `samples`.
        flags: field of `settings` -> what `add_argument` is told beside default and type; the other fields
            keep their defaults.
    """
    parser = argparse.ArgumentParser(prog=f"python -m himtok_core train {name}", description=about)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an existing one goes on")
    parser.add_argument("--minutes", type=float, help="stop and save after so long")
    for field in fields(settings):
        if field.name in flags:
            flag = dict(flags[field.name])
            if field.default is MISSING:
                flag["required"] = True
            else:
                flag["default"] = field.default
                flag["help"] += " (%(default)s)" if field.default is not None else ""
            if "action" not in flag:
                number = isinstance(field.default, int | float)
                flag.setdefault("type", type(field.default) if number else str)
            parser.add_argument(f"--{field.name.replace('_', '-')}", **flag)
    options = vars(parser.parse_args(argv))
    chosen = settings(**{key: options[key] for key in flags})
    train(chosen, options["out"], options["minutes"])
    if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
        rows = [row for row in read_rows(options["out"]) if "samples" in row]
        print(json.dumps(rows[-1]))
    return 0
