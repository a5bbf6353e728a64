"""What is wrong with a data set: named with file and place, counted, and skipped or fatal.

Readers report here and go on; what a sample looks like is theirs to know.
"""

import sys

from ..errors import DataError

SHOWN = 20  # problems named on standard error before only their number grows


class DataProblems:
    """The samples of a run that cannot be used.

    Args:
        fatal: the first problem ends the run instead of being counted.
        quiet: nothing goes to standard error, for all processes of a run but one.

    Attributes:
        lines: one line for every problem, "where: what".
    """

    def __init__(self, fatal: bool = False, quiet: bool = False):
        self.fatal = fatal
        self.quiet = quiet
        self.lines: list[str] = []

    def report(self, where: str, what: str) -> None:
        """Note that a sample is left out.

        Args:
            where: file and line, or file and the sample's id: "refs(unc).p: ref 17", "val.jsonl:12".
            what: what was found and what would be right.

        Raises:
            DataError: if problems are fatal.
        """
        line = f"{where}: {what}"
        if self.fatal:
            raise DataError(line)
        self.lines.append(line)
        if self.quiet:
            return
        if len(self.lines) <= SHOWN:
            print(f"left out: {line}", file=sys.stderr)
        elif len(self.lines) == SHOWN + 1:
            print("left out: more, which the result file names", file=sys.stderr)

    def __len__(self) -> int:
        return len(self.lines)
