"""Vision transformers in VALIDATION.md: this model beside the authors' simulator."""

from .model import LatencyModel
from .networks import build_network
from .release import released_ms
from .release.hardware import Hardware
from .release.networks import BATCHES
from .release.transformers import TRANSFORMERS, stem

DEVICES = ('v100', 'rtx3060', 'tx2')
SHARES = (0.3, 0.5, 0.7, 1.0)
# The policies, and the mode that the simulator has them in.
POLICIES = (('tokens', 'spatial'), ('heads', 'channel'), ('blocks', 'layer'))
TRANSFORMER_COLUMNS = (
    *('network', 'policy', 'device', 'simulator ms', 'this model ms', 'error'),
    *(f'r_l at {share}: simulator, this model' for share in SHARES),
)


def transformer_section(table: str) -> str:
    """The section of VALIDATION.md around a table of :func:`transformer_rows`."""
    return f"""## Vision transformers at 224 x 224 (ms per image, blocks only)

The simulator as reproduced, whose static networks and token, head and block rates are within 0.5 %
of its own outputs; nothing was measured. Static times and ratios r_l of the blocks at one share for
all that a policy decides on. This model was not fitted to them; tiles are exact divisors. It
differs in what it counts: queries, keys and values are of kept tokens alone, in the simulator of
all of them, hence its higher ratios of tokens; a skipped head narrows the MLP's inputs, not its
hidden channels; norms and softmax are one pass over off-chip memory. T2T's stem is left out: here
it has mmpretrain's plain attention, in the simulator performers.

{table}"""


def transformer_rows() -> list[tuple]:
    """A row for each network, policy and device."""
    rows = []
    for name in ('deit_s', 'deit_b', 't2t_vit_19'):
        for policy, mode in POLICIES:
            rows += [_row(name, policy, mode, device) for device in DEVICES]
    return rows


def _row(name: str, policy: str, mode: str, device: str) -> tuple:
    batch = BATCHES[device]
    model = LatencyModel(device, batch_size=batch, tiles='divisors')
    network = build_network(name).with_policies((policy,))
    other = 0.0
    if TRANSFORMERS[name].tokens_to_token:
        other = 1e3 * stem(Hardware.of(device), TRANSFORMERS[name], batch) / batch
    wanted = released_ms(device, name) - other
    found = [model.network(network, share) for share in SHARES]
    static = found[0].static_ms - found[0].other_us * 1e-3
    ratios = [
        f'{(released_ms(device, name, mode, share) - other) / wanted:.2f}, '
        f'{(latency.dynamic_ms - latency.other_us * 1e-3) / static:.2f}'
        for share, latency in zip(SHARES, found, strict=True)
    ]
    ours = static / batch
    return name, policy, device, wanted, ours, f'{100 * (ours / wanted - 1):+.1f} %', *ratios
