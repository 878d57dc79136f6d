"""What all tests share: one hypothesis profile, one random generator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings

# the same examples in every run and no clock: a failure here is a failure everywhere
settings.register_profile("fewbit", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("fewbit")


@pytest.fixture
def rng() -> np.random.Generator:
    """A random generator that starts every test at the same point."""
    return np.random.default_rng(0)
