"""The one way to refuse a number that is out of range."""

from collections.abc import Callable
from numbers import Real
from typing import Any


def check_number(field: str, value: Any, valid: Callable[[Any], bool], allowed: str) -> None:
    """Check a numeric argument.

    Args:
        field: The argument's name.
        value: What was given.
        valid: Tells whether a number is allowed.
        allowed: The same in words.

    Raises:
        TypeError: If ``value`` is not a number.
        ValueError: If it is not one of the allowed ones.
    """
    message = f'{field}: got {value!r}; it must be {allowed}'
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(message)
    if not valid(value):
        raise ValueError(message)
