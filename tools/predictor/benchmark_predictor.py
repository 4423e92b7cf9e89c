"""How fast the latency predictor is: one network, a full sweep, and plain loops beside them.

python tools/predictor/benchmark_predictor.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from reference_search import nested_loop_latency

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from latency_predictor import LatencyModel, load_devices, resnet, schedule
from latency_predictor.block import dynamic_rest
from latency_predictor.search import legal_granularities, sweep

RATES = np.linspace(0.05, 1, 20)


def best_milliseconds(run, repeats: int) -> float:
    """Shortest CPU time of a few runs."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def main() -> int:
    network = resnet(101, 224, '4-4-7-1')
    start = time.process_time()
    LatencyModel('v100').network(network, 0.5)
    print(f'one network, first call   {1e3 * (time.process_time() - start):8.1f} ms')
    one = best_milliseconds(lambda: LatencyModel('v100').network(network, 0.5), 10)
    print(f'one network               {one:8.1f} ms   (goal 20)')

    devices = load_devices()
    choices = np.prod([len(sizes) for sizes in legal_granularities(network)])
    full = best_milliseconds(
        lambda: [sweep(LatencyModel(device), network, RATES) for device in devices], 3
    )
    print(
        f'sweep                     {full:8.1f} ms   (goal 2000): {len(devices)} devices, '
        f'{choices} S_net, {len(RATES)} rates'
    )

    block, device = network.blocks[1].with_granularity(8), load_devices('v100')[0]
    operators = dynamic_rest(block, 0.4)
    loops = best_milliseconds(
        lambda: [nested_loop_latency(operator, device) for operator in operators], 1
    )
    vectorised = best_milliseconds(
        lambda: [schedule(operator, device) for operator in dynamic_rest(block, RATES)], 10
    )
    print(f'nested loops, a block     {loops:8.1f} ms   for one rate')
    print(
        f'vectorised, the same      {vectorised / len(RATES):8.3f} ms   for one rate of '
        f'{len(RATES)}: {loops * len(RATES) / vectorised:.0f} x faster'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
