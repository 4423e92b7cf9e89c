"""How much of a peak is reached: memory transactions and processing engines (Appendix A).

All functions broadcast over numpy arrays and return floats in (0, 1].
"""

import numpy as np
from numpy.typing import ArrayLike


def transaction_efficiency(run: ArrayLike, gap: ArrayLike, transaction: float) -> np.ndarray:
    """Useful share of what memory transactions carry, e(n, gap).

    Memory is read in aligned transactions of ``transaction`` elements. A tile reads runs of ``run``
    neighbouring elements, and ``gap`` elements that it does not need lie between two runs. This is
    the term by which the granularity S acts on ``l_data``: S = 1 uses 1 element of 8.

    Args:
        run: Elements in one contiguous run, >= 1.
        gap: Elements between the end of a run and the start of the next, >= 0; 0 means that the
            runs touch and are in truth one long run.
        transaction: Elements in one transaction (32 bytes: 8 in fp32, 16 in fp16).
    """
    run, gap = np.asarray(run, float), np.maximum(gap, 0)
    long_run = run / (np.ceil(run / transaction) * transaction)
    alone_in_transaction = run / transaction
    several_in_transaction = run / (run + gap)
    short_run = np.where(run + gap > transaction, alone_in_transaction, several_in_transaction)
    return np.where(gap == 0, 1.0, np.where(run > transaction, long_run, short_run))


def engine_utilisation(outputs: ArrayLike, parallel: float) -> np.ndarray:
    """Share of a processing engine's lanes that compute: x / (ceil(x / q) q).

    Args:
        outputs: x, output elements of one tile, > 0.
        parallel: q, outputs an engine needs in flight to keep its lanes and their pipeline full.
    """
    outputs = np.asarray(outputs, float)
    return outputs / (np.ceil(outputs / parallel) * parallel)
