"""The batches of a training stage: draws of the mixture, read ahead by threads; bad samples are replaced.

Every batch depends on (seed, step) only, on however many processes it is divided, and on nothing that came
before it.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from threading import Lock

import numpy as np
import torch

from ..data.jsonl import AnnotationFile
from ..data.mixture import Mixture
from ..data.problems import DataProblems
from ..errors import DataError, MaskError, PictureError
from .conversations import ConversationWriter, Example, collate
from .losses import sample_levels
from .reference_losses import sample_indices


class StageData:
    """Numbered examples of a mixture, and batches of them.

    Args:
        sets, mixture: what is drawn from, and how. writer: makes the examples. problems: is told of samples
            that cannot be used. levels: of the hierarchical mask loss for every mask. seed: of what is drawn
            at random inside a sample.
    """

    def __init__(
        self,
        sets: Sequence[AnnotationFile],
        mixture: Mixture,
        writer: ConversationWriter,
        problems: DataProblems,
        levels: int,
        seed: int,
    ):
        self.sets, self.mixture, self.writer, self.problems = sets, mixture, writer, problems
        self.levels, self.seed = levels, seed
        self._bad: set[tuple[int, int]] = set()
        self._naming = Lock()

    def example(self, number: int) -> Example:
        """The example of a draw. In place of a sample that cannot be used comes the next one of its data set.

        Raises:
            DataError: if no sample of the data set can be used, or a problem is fatal.
        """
        chosen, first = self.mixture[number]
        data = self.sets[chosen]
        for index in chain(range(first, len(data)), range(first)):
            if (chosen, index) in self._bad:
                continue
            spoil = np.random.default_rng((self.seed, number)) if data.augment else None
            try:
                return self.writer.example(data.sample(index), data.max_tiles, spoil)
            except (DataError, PictureError, MaskError) as error:
                with self._naming:  # threads may find the same one at the same moment
                    if (chosen, index) not in self._bad:
                        self._bad.add((chosen, index))
                        self.problems.report(data.where(index), str(error))
        raise DataError(f"no sample of {data.path} can be used")

    def batches(self, numbers: Iterable[Sequence[int]], workers: int) -> Iterator[dict[str, torch.Tensor]]:
        """Batches of the draws in each of `numbers`, in order, while `workers` threads prepare the next."""
        pool, waiting = ThreadPoolExecutor(workers), deque()
        try:
            for chosen in numbers:
                waiting.append((chosen, [pool.submit(self.example, number) for number in chosen]))
                if sum(len(futures) for _, futures in waiting) > 2 * workers + len(chosen):
                    yield self._batch(*waiting.popleft())
            while waiting:
                yield self._batch(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _batch(
        self, numbers: Sequence[int], futures: Sequence[Future[Example]]
    ) -> dict[str, torch.Tensor]:
        examples = [future.result() for future in futures]
        return collate(examples, self.writer.processor, self._levels(numbers, examples))

    def _levels(self, numbers: Sequence[int], examples: Sequence[Example]) -> torch.Tensor:
        if self.writer.reference:
            random = np.random.RandomState((self.seed * 1_000_003 + numbers[0]) % 2**32)
            return torch.tensor(sample_indices(random, self.levels), dtype=torch.int64)
        rows = [torch.zeros(0, self.levels, dtype=torch.int64)]
        for number, example in zip(numbers, examples):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
            for _ in range(sum(run.drawn for run in example.runs)):
                rows.append(sample_levels(generator, self.levels)[None])
        return torch.cat(rows)
