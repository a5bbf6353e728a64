"""The repository itself: what a Hugging Face Space, pip and a reader of the README rely on."""

import ast
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from huggingface_hub import metadata_load
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parents[1]
SPACE_COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
IMPORT_NAMES = {
    "pillow": "PIL",
    "resvg-py": "resvg_py",
    "scikit-image": "skimage",
    "segment-anything": "segment_anything",
}
# Not imported by us but by what we call: device maps, quantisation, SAM weights, image processing.
USED_INDIRECTLY = {"accelerate", "bitsandbytes", "segment-anything", "torchvision"}
BUILD_ONLY = {"resvg_py"}  # rasterises the sprites once; what runs reads the result
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif"}


def requirements(name: str) -> dict[str, Requirement]:
    """Requirements of one file by package name, without comments and `-r` lines."""
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    parsed = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return {requirement.name: requirement for requirement in parsed}


def bounds(requirement: Requirement) -> tuple[Version, Version]:
    """The one `>=` and the one `<` version of a requirement."""
    found = {specifier.operator: Version(specifier.version) for specifier in requirement.specifier}
    assert set(found) == {">=", "<"}, f"{requirement}: expected one lower and one upper bound"
    return found[">="], found["<"]


ALL_REQUIREMENTS = requirements("requirements.txt") | requirements("requirements-dev.txt")


def imported_packages(*patterns: str) -> set[str]:
    """Third-party packages that the Python files matching these patterns import anywhere in them."""
    names: set[str] = set()
    for path in (path for pattern in patterns for path in ROOT.glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.split(".")[0])
    benchmarks = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}  # they share a helper
    return names - set(sys.stdlib_module_names) - {"app", "demo", "himtok_core", "tests"} - benchmarks


def readme_tree() -> set[str]:
    """Paths named in the README's tree: the code block that starts with app.py, two spaces a level."""
    blocks = re.findall(r"```(?:text)?\n(app\.py .*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    assert len(blocks) == 1, "README.md must hold exactly one tree that starts with app.py"
    paths: set[str] = set()
    folders: list[str] = []
    for line in blocks[0].splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders = folders[:depth] + [name]
        paths.add("".join(folders))
    return paths


# ---- Hugging Face Space ----------------------------------------------------------------------------------


def test_the_space_front_matter_describes_this_app() -> None:
    card = metadata_load(ROOT / "README.md")
    assert card["sdk"] == "gradio"
    assert (ROOT / card["app_file"]).is_file()
    assert card["license"] == "apache-2.0"
    assert {card["colorFrom"], card["colorTo"]} <= SPACE_COLOURS
    assert card["title"] and card["emoji"]


def test_the_space_runs_versions_that_the_requirements_allow() -> None:
    card = metadata_load(ROOT / "README.md")
    gradio = requirements("requirements.txt")["gradio"]
    # A Space installs exactly this version: a full one, and not older than what was tried.
    assert re.fullmatch(r"\d+\.\d+\.\d+", card["sdk_version"])
    assert card["sdk_version"] in gradio.specifier
    python = re.search(r'^requires-python = "(.+)"$', (ROOT / "pyproject.toml").read_text(), flags=re.M)
    # YAML would read an unquoted 3.10 as the number 3.1.
    assert isinstance(card["python_version"], str)
    assert python and card["python_version"] in SpecifierSet(python.group(1))


# ---- requirements ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ALL_REQUIREMENTS))
def test_each_requirement_is_bounded_and_installed_inside_its_bounds(name: str) -> None:
    lower, upper = bounds(ALL_REQUIREMENTS[name])
    assert upper == Version(str(lower.major + 1)), f"{name}: the upper bound is the next major version"
    assert lower <= Version(Version(version(name)).public) < upper


def test_what_runs_and_what_is_required_are_the_same() -> None:
    imported = imported_packages("app.py", "demo/**/*.py", "himtok_core/**/*.py")
    required = {IMPORT_NAMES.get(name, name): name for name in requirements("requirements.txt")}
    assert imported - BUILD_ONLY == imported & set(required), "imported, but not in requirements.txt"
    assert {required[name] for name in set(required) - imported} <= USED_INDIRECTLY


def test_tests_and_benchmarks_import_only_requirements() -> None:
    known = {IMPORT_NAMES.get(name, name) for name in ALL_REQUIREMENTS}
    assert imported_packages("tests/**/*.py", "benchmarks/**/*.py") <= known


# ---- tree ------------------------------------------------------------------------------------------------


def test_the_readme_tree_names_what_exists() -> None:
    missing = sorted(path for path in readme_tree() if not (ROOT / path).exists())
    assert not missing, f"in the README's tree but not in the repository: {missing}"


def test_the_readme_tree_names_every_file() -> None:
    files = {
        str(path.relative_to(ROOT))
        for folder in ("demo", "himtok_core", "benchmarks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".css", ".js"} and path.name != "__init__.py"
    }
    missing = sorted(files - readme_tree())
    assert not missing, f"files that the README's tree does not name: {missing}"


def test_the_tree_stays_small_enough_to_travel_whole() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the repository is unknown")
    # Another user's checkout (a container's bind mount) is fine to read.
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files", "-z"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    size = sum((ROOT / name).stat().st_size for name in names if name and (ROOT / name).is_file())
    assert 0 < size < 60_000_000


# ---- licences --------------------------------------------------------------------------------------------


def test_the_licence_is_the_whole_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


def test_shipped_weights_state_their_licence() -> None:
    folders = {path.parent for path in (ROOT / "assets").rglob("*.safetensors")}
    assert folders, "no weights under assets/"
    for folder in folders:
        assert metadata_load(folder / "README.md")["license"] == "apache-2.0"


def test_each_example_picture_has_its_licence_beside_it() -> None:
    folder = ROOT / "assets" / "examples"
    pictures = sorted(path.name for path in folder.iterdir() if path.suffix in PICTURES)
    assert len(pictures) >= 6
    notes = (folder / "README.md").read_text()
    assert re.search("licen[cs]e", notes, flags=re.I)
    assert not [name for name in pictures if name not in notes]
