"""Where the pictures of a data set lie.

Knows that annotation files name pictures by a path of their authors' machine, by a path below some folder, or
by the bare name.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..errors import DataError


def find_picture(name: str, folders: Sequence[Path]) -> Path | None:
    """The file that a data set calls `name`: below one of the folders, by its path or its bare name, or None.

    Folders are tried in order. A full path is only ever looked up by its bare name.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    for folder in folders:
        for tried in (path, PurePosixPath(path.name)):
            if path.name and not tried.is_absolute() and (folder / tried).is_file():
                return folder / tried
    return None


def picture_folder(given: Path | None, usual: Sequence[Path]) -> Path:
    """The folder of the pictures: the given one, else the first of the usual places that is there.

    Raises:
        DataError: if there is none.
    """
    if given is not None:
        if not given.is_dir():
            raise DataError(f"There is no folder {given} with pictures.")
        return given
    for folder in usual:
        if folder.is_dir():
            return folder
    tried = ", ".join(str(folder) for folder in usual)
    raise DataError(f"The pictures are in none of the usual places ({tried}): say where with --images.")
