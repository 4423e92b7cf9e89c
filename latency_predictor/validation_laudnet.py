"""LAUDNet's figure in VALIDATION.md: what it prints, the release reproduced, and this model."""

from collections.abc import Sequence

from .model import LatencyModel
from .networks import build_network
from .release.networks import BATCHES
from .release.published import LINES, Line, rate_of, reproduced_ms

COLUMNS = ('line', 'device', 'points', 'release, mean', 'worst', 'this model, mean', 'worst')


def laudnet_section(table: str) -> str:
    """The section of VALIDATION.md around a table of :func:`laudnet_rows`."""
    return f"""## LAUDNet's figure: layers and channels skipped at 224 x 224

The latencies of the figure are outputs of the authors' simulator, not measurements. The rate of
each point, one for all blocks, is solved from its MACs. "release" is the simulator reproduced
(`python -m latency_predictor release`, `figure laudnet`): static and layer-skipping networks agree
with it to the last printed digit, channels within 0.1 % (its own numbers hold random draws),
patches within 0.7 % but for one cell of 1.2 %. Not reproduced: squeeze-and-excitation, softmax and
layer norm, hence its RegNetY and T2T-ViT. "this model" has tiles of exact divisors and launches of
5 us on V100; it counts conv1, conv2 and conv3 at c, c² and c, the simulator at about c, c³ and c².

{table}"""


def laudnet_rows() -> list[tuple]:
    """A row of errors for each line of the figure whose rates can be solved from its MACs."""
    rows = []
    for line in LINES:
        for device, printed in line.latency_ms.items():
            if line.run is None:
                continue
            released = _errors(reproduced_ms(line, device), printed)
            ours = _errors(predicted_ms(line, device), printed)
            rows.append((line.label, device, len(printed), *released, *ours))
    return rows


def predicted_ms(line: Line, device: str) -> list[float]:
    """Milliseconds per image of this model at the points of a line, blocks only."""
    if line.run is None:
        return []
    name, mode = line.run
    network, batch = build_network(name), BATCHES[device]
    if mode == 'layer':
        network = network.with_granularity('all')
    if mode == 'channel':
        network = network.with_channel_groups('2-2-2-2')
    model = LatencyModel(device, batch_size=batch, tiles='divisors')
    found = [model.network(network, rate_of(line.run, gmacs)) for gmacs in line.gmacs]
    return [(latency.dynamic_ms - latency.other_us * 1e-3) / batch for latency in found]


def _errors(found: Sequence[float], printed: Sequence[float]) -> tuple[str, str]:
    errors = [again / wanted - 1 for again, wanted in zip(found, printed, strict=True)]
    mean = sum(map(abs, errors)) / len(errors)
    return f'{100 * mean:.1f} %', f'{100 * max(errors, key=abs):+.1f} %'
