"""What counts as quantized in a network: the layers of `QUANT_LAYERS`, and activations whose output is rounded."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from fewbit.torch.layers import QUANT_LAYERS
from fewbit.torch.quantizer import ActQuantizer
from fewbit.torch.reads import LAYERS, NORMS


class QuantActivation(nn.Module):
    """An activation with a quantizer behind it.

    Args:
        act: the activation, for example nn.ReLU().
        output: rounds what it gives.
    """

    def __init__(self, act: nn.Module, output: ActQuantizer) -> None:
        super().__init__()
        self.act = act
        self.output_quantizer = output
        self.quantize_enabled = True
        self.training = act.training

    def forward(self, x: Tensor) -> Tensor:
        """x, of any shape."""
        y = self.act(x)
        return self.output_quantizer(y) if self.quantize_enabled else y


BLOCKS: tuple[type[nn.Module], ...] = (*QUANT_LAYERS.values(), QuantActivation)


def outer_modules(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All modules under their first name, but not what is inside of a layer, a BatchNorm or a block."""
    inside: set[nn.Module] = set()
    for name, m in net.named_modules():
        if m not in inside:
            yield name, m
        if m in inside or isinstance(m, LAYERS + NORMS + BLOCKS):
            inside.update(m.children())


def collect_quantized_blocks(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """The quantized layers and activations, each once, with its name."""
    return [(name, m) for name, m in outer_modules(net) if isinstance(m, BLOCKS)]
