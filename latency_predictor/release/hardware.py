"""What the authors' simulator knows of a device, and its terms that all operators share.

Everything is counted in FP32 elements. Latencies are seconds, without the launch of a kernel.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import ArrayLike

from ..device import load_device
from ..efficiency import engine_utilisation

ELEMENT = 4  # bytes
LAUNCH = 8e-6  # seconds of each kernel, on every device
LONGEST = 8  # tiles are powers of two below 2^8, and a dimension is cut into fewer than 8


@dataclass(frozen=True)
class Hardware:
    """A device of the simulator.

    Attributes:
        engines: Processing engines.
        rate: Multiply-accumulates of one of them per second.
        parallel: Outputs that it has in flight.
        offchip: Elements per second between off-chip and on-chip memory.
        onchip: Elements per second between on-chip memory and all engines.
        transaction: Elements of one transaction of on-chip memory.
    """

    engines: int
    rate: float
    parallel: float
    offchip: float
    onchip: float
    transaction: int

    @classmethod
    def of(cls, name: str) -> 'Hardware':
        """A shipped device, as the simulator has it: in FP32, whatever it takes to launch."""
        device = load_device(name)
        return cls(
            engines=device.processing_engines,
            rate=device.macs_per_second('fp32'),
            parallel=device.pipeline_depth * device.lanes['fp32'],
            offchip=device.offchip_bandwidth * 1e9 / ELEMENT,
            onchip=device.onchip_bandwidth * 1e9 / ELEMENT,
            transaction=device.transaction // ELEMENT,
        )

    def efficiency(self, run: ArrayLike, gap: ArrayLike) -> np.ndarray:
        """e(n, gap) of Appendix A. Quirk: runs that touch are not taken for one long run."""
        run, gap = np.asarray(run, float), np.maximum(gap, 0)
        alone = run / (np.ceil(run / self.transaction) * self.transaction)
        return np.where(run + gap > self.transaction, alone, run / (run + gap))

    def computing(self, outputs: ArrayLike, macs: float) -> np.ndarray:
        """Seconds of a tile of ``outputs``, each of ``macs`` multiply-accumulates."""
        outputs = np.asarray(outputs, float)
        return outputs * macs / (self.rate * engine_utilisation(outputs, self.parallel))


def tiles(size: int) -> np.ndarray:
    """Tile edges to try along a dimension; some exceed it."""
    edges = {1 << i for i in range(LONGEST) if 1 << i <= 2 * size}
    edges |= {-(-size // i) for i in range(1, min(size, LONGEST))}
    return np.array(sorted(edges | set(range(2, min(size, LONGEST)))), float)


def grid(*sizes: int) -> tuple[list[np.ndarray], np.ndarray]:
    """All tiles of an array of ``sizes``, edge by edge, and how many of each there are in it."""
    edges = np.meshgrid(*(tiles(size) for size in sizes), indexing='ij')
    edges = [edge.ravel() for edge in edges]
    pairs = zip(sizes, edges, strict=True)
    return edges, prod(np.ceil(size / edge) for size, edge in pairs)
