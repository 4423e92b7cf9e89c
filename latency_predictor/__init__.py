"""Analytical latency of static and spatial-wise dynamic networks; needs nothing but numpy.

l = g(H, P, S, r): hardware ``Device``, block shape ``BlockSpec``, granularity S and activation rate
r give a latency by a search over tiles (``Schedule``) of each ``Operator``.
"""

from .blocks import basic, bottleneck, dense_layer, inverted_residual
from .chain import Conv, chain
from .device import Device, device_names, load_device, load_devices
from .encoder_spec import EncoderSpec
from .fusion import Fusion
from .macs import network_macs, rate_for_macs_ratio
from .model import LatencyModel
from .network import NetworkSpec
from .networks import NETWORK_NAMES, build_network, regnet, resnet
from .operators.operator import Operator
from .rates import expected_dilated_rate
from .report import load_report
from .results import BlockCurve, BlockLatency, NetworkLatency, OperatorLatency
from .schedule import Schedule, schedule
from .spec import BlockSpec, LayerSpec

__all__ = [
    'BlockCurve',
    'BlockLatency',
    'BlockSpec',
    'Conv',
    'Device',
    'EncoderSpec',
    'Fusion',
    'LatencyModel',
    'LayerSpec',
    'NETWORK_NAMES',
    'NetworkLatency',
    'NetworkSpec',
    'Operator',
    'OperatorLatency',
    'Schedule',
    'basic',
    'bottleneck',
    'build_network',
    'chain',
    'dense_layer',
    'device_names',
    'expected_dilated_rate',
    'inverted_residual',
    'load_device',
    'load_devices',
    'load_report',
    'network_macs',
    'rate_for_macs_ratio',
    'regnet',
    'resnet',
    'schedule',
]
