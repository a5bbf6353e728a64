"""Which model made a result, exactly: names do not say, files do."""

import hashlib
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "transformers", "accelerate", "numpy", "pillow")
_SAMPLE = 1 << 20  # bytes of a file's beginning and end that are read
_WEIGHTS = ("*.safetensors", "*.bin", "config.json")


def revision(folder: Path) -> str:
    """The revision of a model's folder.

    Returns:
        The hub's commit for a folder in its cache; else "sha256:" and 16 digits over the names, sizes,
        beginnings and ends of the weights, which finds other weights without reading gigabytes.
    """
    resolved = folder.absolute()
    if resolved.parent.name == "snapshots":
        return resolved.name
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _WEIGHTS for path in folder.glob(pattern)}):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE))
            file.seek(max(_SAMPLE, size - _SAMPLE), os.SEEK_SET)
            digest.update(file.read(_SAMPLE))
    return f"sha256:{digest.hexdigest()[:16]}"


def versions() -> dict[str, str]:
    """The versions of the packages that a score may depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
