"""The hardware H of l = g(H, P, S, r): a few constants, each with its unit and source.

A device is many processing engines (PEs) below a three-level memory (Figure 3): off-chip, on-chip
global, and local to a PE. The shipped devices are in ``devices.yaml``; one's own is a file of the
same form.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

# Bytes of one stored element. TF32 is stored as FP32 and rounded inside the tensor core.
PRECISION_BYTES = MappingProxyType({'fp32': 4, 'tf32': 4, 'fp16': 2, 'bf16': 2})

_SHIPPED = Path(__file__).with_name('devices.yaml')

# Every number of a device file: its key there, its unit, and the smallest legal value.
_QUANTITIES = {
    'processing_engines': ('count', 1),
    'frequency': ('MHz', 1e-3),
    'offchip_bandwidth': ('GB/s', 1e-6),
    'onchip_bandwidth': ('GB/s', 1e-6),
    'transaction': ('byte', 1),
    'pipeline_depth': ('cycle', 1),
    'kernel_launch': ('us', 0),
    'overlap': ('ratio', 0),
    'onchip_capacity': ('MB', 0),
    'padding_skipped': ('ratio', 0),
    'channels_last': ('ratio', 0),
    'any_tile': ('ratio', 0),
    'halo_reuse': ('ratio', 0),
    'winograd': ('ratio', 0),
}
# These may be left out: their default 0 is the paper's model.
_OPTIONAL = (
    'overlap',
    'onchip_capacity',
    'padding_skipped',
    'channels_last',
    'any_tile',
    'halo_reuse',
    'winograd',
)
_LANES_UNIT = 'MAC/cycle/PE'


@dataclass(frozen=True)
class Device:
    """Hardware properties (Table 4 and Appendix A).

    Attributes:
        name: Key in the device file, lower case.
        label: Name for people.
        processing_engines: Number of PEs.
        frequency: Clock in MHz.
        lanes: Per precision, multiply-accumulates one PE does per cycle.
        offchip_bandwidth: Off-chip memory <-> on-chip global memory, GB/s (1e9 bytes/s).
        onchip_bandwidth: On-chip global memory <-> all PEs together, GB/s.
        transaction: Bytes of one on-chip memory transaction.
        pipeline_depth: Cycles a lane's result takes, hence independent outputs a lane must have.
        kernel_launch: Latency of starting one kernel, us.
        overlap: Share of the shorter of l_data and l_computation hidden behind the longer one;
            0 is the paper's l = l_data + l_computation, 1 a perfect roofline.
        onchip_capacity: MB (1e6 bytes) of on-chip memory in which operators leave their output for
            the next one: only what exceeds it is off-chip traffic. 0 is the paper's model, where
            every operator reads from and writes to off-chip memory.
        padding_skipped: Share of the multiplications with zero padding that are not done.
        channels_last: 1 where the channels of a pixel are contiguous in memory (NHWC), so that
            already a single pixel is a long run; 0 for NCHW.
        any_tile: 1 where kernels take tiles of any exact divisor and cut the last one to what is
            left, 0 for the paper's powers of two.
        halo_reuse: 1 where an engine's local memory keeps the halo that neighbouring patches share
            (a CPU's caches); 0 for the paper's model, where each tile loads its own.
        winograd: 1 where plain 3x3 convolutions of bottlenecks are computed by Winograd's algorithm
            if that is less work, as las_mm does on CPUs; 0 for the paper's model.
        sources: For each number, where it is from.
    """

    name: str
    label: str
    processing_engines: int
    frequency: float
    lanes: Mapping[str, float]
    offchip_bandwidth: float
    onchip_bandwidth: float
    transaction: int = 32
    pipeline_depth: int = 4
    kernel_launch: float = 8.0
    overlap: float = 0.0
    onchip_capacity: float = 0.0
    padding_skipped: float = 0.0
    channels_last: float = 0.0
    any_tile: float = 0.0
    halo_reuse: float = 0.0
    winograd: float = 0.0
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __hash__(self) -> int:
        return hash((self.name, self.processing_engines, self.frequency, self.offchip_bandwidth))

    def macs_per_second(self, precision: str = 'fp32') -> float:
        """Peak multiply-accumulates per second of one PE. ValueError if it lacks the precision."""
        if precision not in self.lanes:
            raise ValueError(
                f'precision: got {precision!r}; choose one of {", ".join(self.lanes)} on device '
                f'{self.name!r}'
            )
        return self.lanes[precision] * self.frequency * 1e6

    def to_dict(self) -> dict:
        """The device in the form of the device file: every number with its unit and source."""

        def quantity(value: float, unit: str, key: str) -> dict[str, Any]:
            return {'value': value, 'unit': unit, 'source': self.sources.get(key, 'not stated')}

        entry: dict[str, Any] = {'label': self.label}
        for key, (unit, _) in _QUANTITIES.items():
            if key in _OPTIONAL and not getattr(self, key):
                continue
            entry[key] = quantity(getattr(self, key), unit, key)
        entry['lanes'] = {p: quantity(v, _LANES_UNIT, f'lanes.{p}') for p, v in self.lanes.items()}
        return entry


def _read_quantity(
    device: str, key: str, entry: Any, unit: str, smallest: float
) -> tuple[Any, str]:
    """Check one ``{value, unit, source}`` and return (value, source)."""
    where = f'device {device!r}, {key}'
    if not isinstance(entry, Mapping):
        raise ValueError(f'{where}: got {entry!r}; give {{value: ..., unit: {unit}, source: ...}}')
    for part in ('value', 'unit', 'source'):
        if entry.get(part) in (None, ''):
            raise ValueError(
                f'{where}: got no {part!r}; give {{value: ..., unit: {unit}, source: ...}}'
            )
    if entry['unit'] != unit:
        raise ValueError(f'{where}: got the unit {entry["unit"]!r}; give it in {unit}')
    value = entry['value']
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < smallest:
        raise ValueError(f'{where}: got {value!r}; give a number >= {smallest:g} {unit}')
    return value, str(entry['source'])


def _parse_device(name: str, entry: Any) -> Device:
    """Build a Device from one entry of a device file; ValueError names the faulty key."""
    if not isinstance(entry, Mapping):
        raise ValueError(f'device {name!r}: got {entry!r}; give a mapping of hardware properties')
    known = {*_QUANTITIES, 'lanes', 'label'}
    for key in entry:
        if key not in known:
            raise ValueError(
                f'device {name!r}: got the key {key!r}; choose of {", ".join(sorted(known))}'
            )
    values, sources = {}, {}
    for key, (unit, smallest) in _QUANTITIES.items():
        if key not in entry and key in _OPTIONAL:
            continue
        if key not in entry:
            raise ValueError(f'device {name!r}, {key}: got nothing; give it in {unit}')
        values[key], sources[key] = _read_quantity(name, key, entry[key], unit, smallest)
    for key, (unit, _) in _QUANTITIES.items():
        if unit == 'ratio' and values.get(key, 0) > 1:
            raise ValueError(
                f'device {name!r}, {key}: got {values[key]}; give a number from 0 to 1'
            )
    if not isinstance(entry.get('lanes'), Mapping) or not entry['lanes']:
        raise ValueError(f'device {name!r}, lanes: got none; give fp32: {{value, unit, source}}')
    lanes = {}
    for precision, quantity in entry['lanes'].items():
        if precision not in PRECISION_BYTES:
            raise ValueError(
                f'device {name!r}, lanes: got the precision {precision!r}; choose of '
                f'{", ".join(PRECISION_BYTES)}'
            )
        key = f'lanes.{precision}'
        lanes[precision], sources[key] = _read_quantity(name, key, quantity, _LANES_UNIT, 1e-6)
    return Device(
        name=name,
        label=str(entry.get('label', name)),
        lanes=MappingProxyType(lanes),
        sources=MappingProxyType(sources),
        **values,
    )


def _parse_file(path: Path) -> dict[str, Device]:
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = ' '.join(str(error).split())
        raise ValueError(f'{path}: got no readable YAML; repair it: {reason}') from None
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f'{path}: got no device; give a mapping of a name to its properties')
    return {str(name).lower(): _parse_device(str(name).lower(), e) for name, e in content.items()}


@functools.cache
def _shipped() -> Mapping[str, Device]:
    return MappingProxyType(_parse_file(_SHIPPED))


def device_names() -> tuple[str, ...]:
    """Names of the devices that come with the package."""
    return tuple(_shipped())


def load_devices(names: str | None = None) -> tuple[Device, ...]:
    """Devices of a comma-separated list of names or paths; all shipped ones for None."""
    if names is None:
        return tuple(_shipped().values())
    return tuple(load_device(name.strip()) for name in names.split(',') if name.strip())


def load_device(name: str | Path | Device) -> Device:
    """A shipped device by name (any case), or the single device of one's own YAML file.

    Raises:
        ValueError: Unknown name, or a file whose entry is incomplete; one line that says what is
            allowed.
        FileNotFoundError: a path to a file that does not exist.
    """
    if isinstance(name, Device):
        return name
    text = str(name)
    if text.lower() in _shipped():
        return _shipped()[text.lower()]
    path = Path(text)
    if path.suffix not in ('.yaml', '.yml'):
        raise ValueError(
            f'device: got {text!r}; choose one of {", ".join(device_names())}, or give the path of '
            'a .yaml file'
        )
    if not path.is_file():
        raise FileNotFoundError(f'device: got {text!r}; give a file that exists')
    devices = _parse_file(path)
    if len(devices) != 1:
        raise ValueError(
            f'device: got {text!r} with {len(devices)} devices ({", ".join(devices)}); keep one '
            'per file'
        )
    return next(iter(devices.values()))
