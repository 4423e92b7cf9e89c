"""Where in an epoch a training goes on: exact with the same loader, correct with another."""

from collections.abc import Iterator, Sized
from dataclasses import asdict, dataclass
from typing import Any, cast

from torch.utils.data import DataLoader

KEY = 'las_mm_loader'  # of a checkpoint


@dataclass(frozen=True)
class LoaderRecord:
    """What decides which samples each iteration of an epoch trains on.

    Attributes:
        batches: Batches of an epoch, in each process.
        samples: Samples of a batch, of all processes together.
        length: Length of the data set.
        sampler: Class of the sampler.
        done: Batches of the epoch that were trained on.
    """

    batches: int
    samples: int
    length: int
    sampler: str
    done: int = 0

    @classmethod
    def of(cls, loader: DataLoader, processes: int, done: int = 0) -> 'LoaderRecord':
        """The record of a loader."""
        size = getattr(loader.batch_sampler, 'batch_size', None) or loader.batch_size or 1
        sampler, data = type(loader.sampler).__name__, cast(Sized, loader.dataset)
        return cls(len(loader), size * processes, len(data), sampler, done)

    def to_dict(self) -> dict[str, Any]:
        """In plain types, for a checkpoint."""
        return asdict(self)

    @property
    def order(self) -> tuple[int, str]:
        """What the order of samples depends on."""
        return self.length, self.sampler


def batches_done(
    saved: LoaderRecord | None, now: LoaderRecord, epoch: int, iteration: int
) -> tuple[int, str | None]:
    """How many batches of the epoch are done, and what to say of it.

    Args:
        saved: Of the checkpoint; None if it has no record.
        now: Of the loader that goes on.
        epoch: The epoch to go on with, from 0.
        iteration: Iterations done, as the checkpoint counts them.

    Returns:
        Batches to leave out, and a line for the log where the training cannot go on exactly.
    """
    if saved is None:
        if iteration == epoch * now.batches:
            return 0, None
        return 0, f'the checkpoint does not say how far it was: epoch {epoch + 1} starts anew'
    if (saved.batches, saved.samples, saved.order) == (now.batches, now.samples, now.order):
        return saved.done, None
    changed = (
        f'an epoch had {saved.batches} batches of {saved.samples} samples and has {now.batches} of '
        f'{now.samples} now'
    )
    if saved.done in (0, saved.batches):
        done = now.batches if saved.done else 0
        number = epoch + 2 if saved.done else epoch + 1
        return done, f'{changed}: epoch {number} is trained as a whole'
    if saved.order != now.order:
        return 0, f'{changed}, of other data or in another order: epoch {epoch + 1} starts anew'
    done = saved.done * saved.samples // now.samples
    return done, f'{changed}: epoch {epoch + 1} goes on after {done * now.samples} samples'


class Draw(int):
    """An index that knows its place among all that a sampler draws in an epoch."""

    number: int

    def __new__(cls, index: int, number: int) -> 'Draw':
        draw = super().__new__(cls, index)
        draw.number = number
        return draw

    def __reduce__(self) -> tuple:
        return Draw, (int(self), self.number)


class NumberedBatches:
    """A batch sampler whose indices are numbered, whatever draws them.

    An index may be drawn several times an epoch, and each time is to be augmented otherwise.

    Args:
        batches: The batch sampler.
    """

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list]:
        number = 0
        for batch in self.batches:
            yield [
                Draw(index, number + place) if hasattr(index, '__index__') else index
                for place, index in enumerate(batch)
            ]
            number += len(batch)

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name: str) -> Any:
        if name == 'batches':  # not there yet: a copy or a pickle in the making
            raise AttributeError(name)
        return getattr(self.batches, name)
