"""Whether a layer computes what its class suggests, so that its weights may be used without it.

Pruning, spectral norms and parametrizations compute a layer's weight anew in every forward; a
subclass may compute something else from it; hooks want to see what goes in and comes out. Such
layers must be called as they are.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import _has_any_global_hook

# The methods that make up a layer's forward; whoever inherits all of them computes the same.
METHODS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: ('forward', '_conv_forward'),
    nn.SyncBatchNorm: ('forward',),
    _BatchNorm: ('forward',),
    nn.Linear: ('forward',),
    nn.LayerNorm: ('forward',),
    nn.ReLU: ('forward',),
    nn.ReLU6: ('forward',),
    nn.MaxPool2d: ('forward',),
    nn.AvgPool2d: ('forward',),
    nn.Identity: ('forward',),
    nn.Sequential: ('forward',),
}
NORMS = (_BatchNorm, nn.SyncBatchNorm, nn.Identity)
# With a forward of their own that differs for empty inputs alone.
EQUAL = tuple(f'mmcv.cnn.bricks.wrappers.{name}' for name in ('Conv2d', 'Linear', 'MaxPool2d'))
# What the class of a module that inference stands in for calls the class that it had before.
STANDS_FOR = '_stands_for'
# Packages in which norms, activations and pooling follow each other as the modules' names say.
FRAMEWORKS = ('torch', 'torchvision', 'mmcv', 'mmengine', 'mmdet', 'mmpretrain', 'las_mm')


def inherits(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a layer is of a kind and computes as that kind does."""
    cls = vars(type(layer)).get(STANDS_FOR, type(layer))
    if not isinstance(layer, kind):
        return False
    known = f'{cls.__module__}.{cls.__qualname__}' in EQUAL
    return known or all(getattr(cls, name) is getattr(kind, name) for name in METHODS[kind])


def is_watched(module: nn.Module) -> bool:
    """Whether somebody sees a module's input or output, or computes something in its place."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or 'forward' in module.__dict__
        or _has_any_global_hook()
    )


def why_not_plain(layer: nn.Module | None, *kinds: type[nn.Module]) -> str | None:
    """The reason why a layer must be called as it is, None if its parameters say all.

    Args:
        layer: The layer.
        kinds: What it may be.
    """
    name = type(layer).__name__
    if layer is None or not any(inherits(layer, kind) for kind in kinds):
        allowed = ' or '.join(kind.__name__.lstrip('_') for kind in kinds)
        return f'a {name} is not a plain {allowed}'
    if is_watched(layer):
        return f'a hook or another forward is on one of its {name} layers'
    if getattr(layer, 'gave_up_weights', False):
        return f'a {name} has given up its weights'
    for owner in (layer._parameters, layer._buffers):
        for tensor in owner.values():
            if tensor is not None and not is_plain_tensor(tensor):
                return f'the parameters of a {name} are {type(tensor).__name__}'
    if hasattr(layer, 'weight') and 'weight' not in layer._parameters:
        return f'the weight of a {name} is computed anew in every forward'
    if hasattr(layer, 'bias') and 'bias' not in layer._parameters:
        return f'the bias of a {name} is computed anew in every forward'
    return None


def is_plain_tensor(tensor: Tensor) -> bool:
    """Whether a tensor is memory of its own and no other kind of tensor."""
    plain = type(tensor) in (Tensor, nn.Parameter, getattr(nn, 'Buffer', Tensor))
    return plain and tensor.layout == torch.strided and not tensor.is_quantized


def runs_as_shipped(module: nn.Module, *methods: str) -> bool:
    """Whether the methods of a module are those of a framework or ours, and no user's own.

    Args:
        module: The module.
        methods: Names of methods; each class that the module inherits from may have its own.
    """
    for name in methods:
        if name in module.__dict__:
            return False
        for cls in type(module).__mro__:
            method = vars(cls).get(name)
            origins = {cls.__module__, getattr(method, '__module__', None) or cls.__module__}
            if method is not None and not all(o.split('.')[0] in FRAMEWORKS for o in origins):
                return False
    return True
