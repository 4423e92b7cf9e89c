"""The tile search of Appendix A as plain nested loops: what the vectorised search must equal."""

from math import ceil, inf

BYTES = 4  # fp32


def candidates(size, divisors):
    edges = [1 << i for i in range(8) if 1 << i <= size]
    if divisors:
        edges += [d for d in range(1, min(size, 128) + 1) if size % d == 0]
    return sorted(set(edges))


def efficiency(run, gap, transaction):
    if gap <= 0:
        return 1.0
    if run > transaction:
        return run / (ceil(run / transaction) * transaction)
    return run / transaction if run + gap > transaction else run / (run + gap)


def tile_latency(operator, device, together, channel, row, column):
    """Seconds of an operator with one tile shape, launch excluded."""
    patches = float(operator.patches)
    per_patch = (
        ceil(operator.channels / channel)
        * ceil(operator.height / row)
        * ceil(operator.width / column)
    )
    tiles = per_patch * ceil(patches / together)
    moved = 0.0
    for move in operator.moves:
        rows = (row - 1) * move.stride + move.window
        columns = (column - 1) * move.stride + move.window
        depth = channel
        if move.group_channels is not None:
            depth = ceil(channel * move.groups / operator.channels) * move.group_channels
        moved += (
            depth
            * rows
            * columns
            * move.depth
            / efficiency(column, move.pitch - column, device.transaction / BYTES)
        )
    onchip = tiles * operator.weights_per_channel * channel + per_patch * patches * moved
    whole = operator.offchip if operator.working_set is None else operator.working_set
    missed = max(0.0, 1 - device.onchip_capacity * 1e6 / (float(whole) * BYTES))
    data = (
        (
            missed * float(operator.offchip) / device.offchip_bandwidth
            + onchip / device.onchip_bandwidth
        )
        * BYTES
        / 1e9
    )
    outputs = together * channel * row * column
    parallel = device.lanes['fp32'] * device.pipeline_depth
    utilisation = outputs / (ceil(outputs / parallel) * parallel)
    tile_time = (
        outputs
        * operator.macs_per_output
        / (device.lanes['fp32'] * device.frequency * 1e6 * utilisation)
    )
    computation = ceil(tiles / device.processing_engines) * tile_time
    return data + computation - device.overlap * min(data, computation)


def nested_loop_latency(operator, device):
    """Seconds of an operator with its best tile, launch included."""
    best = inf
    for together in candidates(128, False):
        for channel in candidates(operator.channels, False):
            for row in candidates(operator.height, operator.is_patch):
                for column in candidates(operator.width, operator.is_patch):
                    best = min(best, tile_latency(operator, device, together, channel, row, column))
    return best + operator.launches * device.kernel_launch * 1e-6
