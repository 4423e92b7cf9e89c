"""Analytical latency of static and spatial-wise dynamic networks; needs nothing but numpy.

l = g(H, P, S, r): hardware ``Device``, block shape ``BlockSpec``, granularity S and activation rate
r give a latency by a search over tiles (``Schedule``) of each ``Operator``.
"""

from .block import Fusion
from .builders import NETWORK_NAMES, build_network, regnet, resnet
from .device import Device, device_names, load_device, load_devices
from .macs import network_macs, rate_for_macs_ratio
from .model import LatencyModel
from .operators import Operator
from .rates import expected_dilated_rate
from .report import load_report
from .results import BlockCurve, BlockLatency, NetworkLatency, OperatorLatency
from .schedule import Schedule, schedule
from .spec import BlockSpec, LayerSpec, NetworkSpec

__all__ = [
    'BlockCurve',
    'BlockLatency',
    'BlockSpec',
    'Device',
    'Fusion',
    'LatencyModel',
    'LayerSpec',
    'NETWORK_NAMES',
    'NetworkLatency',
    'NetworkSpec',
    'Operator',
    'OperatorLatency',
    'Schedule',
    'build_network',
    'device_names',
    'expected_dilated_rate',
    'load_device',
    'load_devices',
    'load_report',
    'network_macs',
    'rate_for_macs_ratio',
    'regnet',
    'resnet',
    'schedule',
]
