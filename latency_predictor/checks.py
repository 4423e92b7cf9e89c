"""Errors of users: one line with the field, its value, and what is allowed."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number; booleans are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def require_integer(field: str, value: Any, least: int) -> None:
    """Refuse everything but an integer that is large enough.

    Raises:
        ValueError: If ``value`` is no integer or below ``least``.
    """
    if not is_integer(value) or value < least:
        raise ValueError(f'{field}: got {value!r}; give an integer >= {least}')


def require_one_of(field: str, value: Any, allowed: Iterable[Any]) -> None:
    """Refuse what is not among the allowed values.

    Raises:
        ValueError: If it is not.
    """
    allowed = tuple(allowed)
    if value not in allowed:
        raise ValueError(f'{field}: got {value!r}; choose one of {", ".join(map(str, allowed))}')


def check_rate(field: str, rate: ArrayLike) -> np.ndarray:
    """The rate or rates as an array of floats.

    Raises:
        ValueError: Unless all of them are numbers in [0, 1].
    """
    try:
        values = np.asarray(rate, float)
    except (TypeError, ValueError):
        raise ValueError(f'{field}: got {rate!r}; give a number from 0 to 1') from None
    bad = values[~((values >= 0) & (values <= 1))]
    if bad.size:
        raise ValueError(f'{field}: got {bad.flat[0]:g}; give a number from 0 to 1')
    return values
