"""Arrows between the rooms point down only, and the public names are there.

Every import statement of the project is read with ast, those inside functions too, so nothing has to be run.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import himtok_core

ROOT = Path(__file__).parents[1]
CORE = ROOT / "himtok_core"

# What a room may import from himtok_core, beside itself. "ground" stands for all of the ground floor.
GROUND = {"errors", "markup", "prompts", "geometry", "images", "reply"}
NETWORKS = {"mask_tokenizer", "lmm", "refine"}
RUNNING = {"generation", "chat"}
BESIDE = {"data", "training", "evaluation"}
ALLOWED = {
    **dict.fromkeys(GROUND, GROUND),
    "mask_tokenizer": GROUND,
    "lmm": GROUND | {"mask_tokenizer"},
    "refine": GROUND,
    "generation": GROUND | NETWORKS,
    "chat": GROUND | NETWORKS | {"generation"},
    "data": GROUND,
    "training": GROUND | NETWORKS | RUNNING | {"data", "evaluation"},
    "evaluation": GROUND | NETWORKS | RUNNING | {"data"},
    "cli": GROUND | NETWORKS | RUNNING | BESIDE,
    "__main__": {"cli"},
    # The public names: what is heavy is named there as text and loaded when asked for.
    "__init__": GROUND,
}


def imports(path: Path) -> set[str]:
    """The modules and names that a file imports, as full dotted names."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(package[:len(package) - node.level + 1]) if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    """The room of himtok_core that a file is in: the first part of its path below himtok_core."""
    return path.relative_to(CORE).with_suffix("").parts[0]


CORE_FILES = sorted(CORE.rglob("*.py"))
OUTSIDE_FILES = sorted([*ROOT.glob("*.py"), *(ROOT / "demo").rglob("*.py")])


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CORE_FILES, ids=name_of)
def test_arrows_inside_core_point_down(path: Path) -> None:
    here = room(path)
    assert here in ALLOWED, f"{here} is no room of the house"
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] not in {"demo", "app", "tests"}, f"{path} imports {name}"
        if parts[0] == "himtok_core":
            assert len(parts) > 1, f"{path} imports the package itself, not a room of it"
            assert parts[1] in ALLOWED[here] | {here}, f"{here} may not import {parts[1]}"


@pytest.mark.parametrize("path", CORE_FILES, ids=name_of)
def test_no_gradio_in_core(path: Path) -> None:
    assert not [name for name in imports(path) if name.split(".")[0].startswith("gradio")]


def test_mask_tokenizer_and_language_model_meet_in_one_file() -> None:
    """Sizes and released files may be named all over lmm, the network only in the model that holds both."""
    elsewhere = ("himtok_core.mask_tokenizer.MaskTokenizerConfig", "himtok_core.mask_tokenizer.released")
    networks = {
        path.name: {
            name
            for name in imports(path)
            if name.startswith("himtok_core.mask_tokenizer") and not name.startswith(elsewhere)
        }
        for path in (CORE / "lmm").glob("*.py")
    }
    assert [file for file, names in networks.items() if names] == ["modeling.py"]


@pytest.mark.parametrize("path", OUTSIDE_FILES, ids=name_of)
def test_the_demo_uses_public_names_only(path: Path) -> None:
    here = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] not in {"tests", "benchmarks"} and (here, parts[0]) != ("demo", "app"), name
        if parts[0] == "himtok_core" and len(parts) > 1:
            assert parts[1] in himtok_core.__all__, f"{parts[1]} is no public name of himtok_core"
            assert len(parts) == 2 or parts[1] in {"geometry", "markup", "prompts"}, f"{name} is too deep"


def test_every_public_name_is_there() -> None:
    for name in himtok_core.__all__:
        assert getattr(himtok_core, name) is not None
    assert set(himtok_core.__all__) <= set(dir(himtok_core))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = himtok_core.nonsense


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "gradio")
    code = f"import sys, himtok_core; print([name for name in {heavy!r} if name in sys.modules])"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
