"""Saying once why something runs otherwise than wished."""

import logging
from functools import cache


@cache
def log_once(message: str) -> None:
    """Warn of something that would be said for every block."""
    logging.getLogger('las_mm').warning(message)
