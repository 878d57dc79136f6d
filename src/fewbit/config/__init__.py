"""Settings, each a frozen dataclass that is checked when it is made."""

from fewbit.config.data import DataConfig
from fewbit.config.fields import configure, default_of
from fewbit.config.quantize import (
    BUDGETS,
    CORRECTIONS,
    GROUP,
    OVERRIDE_KEYS,
    STRATEGIES,
    QuantConfig,
    budgets,
    needs_ranges,
    read_config,
    said,
)

__all__ = [
    "BUDGETS",
    "CORRECTIONS",
    "GROUP",
    "OVERRIDE_KEYS",
    "STRATEGIES",
    "DataConfig",
    "QuantConfig",
    "budgets",
    "configure",
    "default_of",
    "needs_ranges",
    "read_config",
    "said",
]
