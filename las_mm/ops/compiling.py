"""What torch.compile is told of our functions, without importing it.

The decorators of ``torch.compiler`` import the compiler where they are used, which takes longer and
more memory than the rest of PyTorch. Most processes that run a model never compile one.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch

from las_mm.importing import when_imported

Arguments = ParamSpec('Arguments')
Result = TypeVar('Result')
Function = TypeVar('Function', bound=Callable[..., Any])


def not_compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """``torch.compiler.disable``: the function, and whatever it calls, runs as Python."""
    chosen = [function]

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return chosen[0](*args, **kwargs)

    def disable() -> None:
        chosen[0] = torch.compiler.disable(function)

    when_imported('torch._dynamo', disable)
    return call


def constant_when_compiled(function: Function) -> Function:
    """``torch.compiler.assume_constant_result``: called when compiled, and never again."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
