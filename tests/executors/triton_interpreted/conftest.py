"""What holds for all checks of interpreted kernels."""

import pytest
import torch


@pytest.fixture(autouse=True)
def poison():
    """What is allocated and never written is NaN, and would be seen in the output."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(False)
