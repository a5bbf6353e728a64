"""Running out of memory, in words that help.

Knows how torch reports it on an accelerator and on a processor. What to do afterwards is the caller's
decision.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import GenerationError

_AMOUNT = re.compile(r"tried to allocate ([0-9.]+ ?[A-Za-z]+)", re.IGNORECASE)


@contextmanager
def readable_memory_errors(doing: str) -> Iterator[None]:
    """Turns "out of memory" inside the block into a GenerationError that says what it was `doing`."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _explained(doing, error) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # how torch words it on a processor
            raise
        raise _explained(doing, error) from error


def _explained(doing: str, error: BaseException) -> GenerationError:
    amount = _AMOUNT.search(str(error))
    needed = f"{amount[1]} more were needed" if amount else "how much more was needed is not known"
    return GenerationError(
        f"The memory ran out while {doing}: {needed}. A smaller --max-tiles, --quantization 8bit or 4bit, or "
        "--device-map auto makes it fit; so does a new conversation if this one has grown long."
    )
