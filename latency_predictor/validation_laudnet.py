"""LAUDNet's figure in VALIDATION.md: what it prints, the release reproduced, and this model."""

from collections.abc import Sequence

from .model import LatencyModel
from .networks import build_network
from .release.networks import BATCHES, CONVOLUTIONAL
from .release.published import LINES, Line, decided, rate_of, reproduced_ms

COLUMNS = ('line', 'device', 'points', 'release, mean', 'worst', 'this model, mean', 'worst')


def laudnet_section(table: str) -> str:
    """The section of VALIDATION.md around a table of :func:`laudnet_rows`."""
    return f"""## LAUDNet's figure: patches, layers, channels and tokens skipped at 224 x 224

The latencies of the figure are outputs of the authors' simulator, not measurements. The rate of
each point, one for all blocks, is solved from its MACs (of tokens it is printed). "release" is the
simulator reproduced (`python -m latency_predictor release`, `figure laudnet`). Against its own
numbers, static ResNets and layer skipping agree to the last printed digit, channels within 0.1 %
(its numbers hold random draws), patches within 0.7 % but for one cell of 1.2 % (R101 4-4-2-1 at
r = 0.3 on RTX3060).

Its search for means of maps is not known line by line. Two passes over the on-chip bus, chosen
among hypotheses by the gates of RegNetY-400MF, give static RegNetY within 0.4 % on all five devices
(800MF and Nano were not looked at before). A reduction of five constants, fitted to its layer norms
and softmaxes, which it meets to 4 %, gives DeiT-S and DeiT-B within 0.2 %, T2T-ViT-19 within 0.5 %.
What T2T's stem counts and how a skipped head thins the perceptron was chosen by T2T's own rows, so
that these are no test of it. All policies at once are within 1.1 %, if five of seven heads are
alive in each of its rows.

"LAUD-s" of convolutional networks: MACs are solved for independent patches, whose points lie below
the figure; with r for the dilated rate they lie above it, by up to 7 %. No run: LAUD-s R101, whose
MACs are not printed, other methods, and T2T's heads, blocks and all at once, whose rates are not.
"this model" has tiles of exact divisors and launches of 5 us on V100; it counts conv1, conv2 and
conv3 at c, c² and c, the simulator at about c, c³ and c².

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
    """Milliseconds per image of this model at the points of a line, blocks only; [] without one."""
    if line.run is None or line.run[0] not in CONVOLUTIONAL:
        return []
    name, mode = line.run
    network, batch = decided(build_network(name), mode), BATCHES[device]
    model = LatencyModel(device, batch_size=batch, tiles='divisors')
    found = [model.network(network, rate_of(line.run, gmacs)) for gmacs in line.gmacs]
    return [(latency.dynamic_ms - latency.other_us * 1e-3) / batch for latency in found]


def _errors(found: Sequence[float], printed: Sequence[float]) -> tuple[str, str]:
    if not found:
        return '-', '-'
    errors = [again / wanted - 1 for again, wanted in zip(found, printed, strict=True)]
    mean = sum(map(abs, errors)) / len(errors)
    return f'{100 * mean:.1f} %', f'{100 * max(errors, key=abs):+.1f} %'
