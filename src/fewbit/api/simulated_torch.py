"""Torch networks to simulate: a copy with its layers converted, in the words of `fewbit.torch.convert_model`."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.config.simulate import SimulateConfig
from fewbit.core.runner import Executed, Feeds, NodeTime
from fewbit.data.datasets import DATASETS, open_dataset
from fewbit.errors import UnsupportedModel, UsageError, unknown
from fewbit.graph.model import TensorInfo
from fewbit.quantization.simulator import FIRST

INPUT = "input"
LARGEST = 64
"""Pixels of an image's edge that reference networks are trained on if they have no weights."""
NO_BN = "the network holds no BatchNorm that could be merged; merge_bn changes nothing"


def open_torch(
    model: Any,
    *,
    dataset: str | None,
    dataset_root: str | Path | None,
    device: str,
    params: str | Path | None,
    threads: int | None,
    say: Any,
    tell: Any,
    variants: Mapping[str, bool],
) -> TorchNetwork:
    """The network that is meant, with its weights.

    Raises:
        UnknownName: no such reference network. UsageError: it cannot be built without a data set.
    """
    from torch import nn

    from fewbit.torch.checkpoint import put
    from fewbit.torch.devices import device_of
    from fewbit.torch.nets import NETS, build, is_function, load_network, our_name
    from fewbit.torch.pretrained import find
    from fewbit.torch.weights_file import read_weights

    on, wanted, notes = device_of(device), {k: v for k, v in variants.items() if v}, []
    own = isinstance(model, nn.Module) or is_function(str(model))
    if own and wanted:
        raise UsageError(f"{next(iter(wanted))} is a variant of reference networks; a network of your own has none")
    shape = None
    if own:
        net = model if isinstance(model, nn.Module) else load_network(str(model))
        name = type(net).__name__ if isinstance(model, nn.Module) else str(model)
    else:
        name = our_name(str(model))
        if name not in NETS:
            raise unknown("network", name, NETS, hint="A file, or module:function, would do as well")
        if dataset is None:
            raise UsageError(f"{name} is made for the images of a data set; say which with dataset")
        if params is None and dataset in DATASETS:
            _check_size(name, dataset)
    if dataset is not None:
        test = open_dataset(dataset, dataset_root, split="test")
        shape = test.shape
        if not own and params is not None:
            net = build(name, len(test.classes), shape[0], **wanted)
        elif not own:
            known = find(name, dataset, dataset_root, wanted, None, say, tell)
            net = known.net
            notes.append(str(known))
        name = " ".join((name, *wanted))
    if params is not None:
        put(read_weights(Path(params)), net, Path(params))
    return TorchNetwork(net, name, shape, on, threads, notes)


def _check_size(name: str, dataset: str) -> None:
    """Refuse to train a network for small images on large ones."""
    edge = max(DATASETS[dataset].shape[1:])
    if edge > LARGEST:
        raise UsageError(
            f"{name} is made for images of 28 to 32 pixels, and those of {dataset} have {edge}; simulate one that was "
            f"trained on them: its ONNX file, its MXNet checkpoint ({name}-symbol.json), or module:function"
        )


class TorchNetwork:
    """A float network in torch. See `fewbit.api.simulating.Network`."""

    def __init__(
        self,
        net: Any,
        name: str,
        shape: tuple[int, int, int] | None,
        device: Any,
        threads: int | None,
        notes: Sequence[str] = (),
    ) -> None:
        self.net = copy.deepcopy(net).to(device).eval()
        self.name, self.device, self.threads, self.notes = name, device, threads, list(notes)
        self.shape = shape
        self.inputs = [TensorInfo(INPUT, np.dtype(np.float32), ("n", *(shape or _shape_of(self.net))))]

    def reference(self) -> TorchRunner:
        """The float network as it was given."""
        return TorchRunner(self.net, self.device, self.threads)

    def simulating(self, config: SimulateConfig) -> TorchSimulating:
        """See `Network`."""
        return TorchSimulating(self, config)

    def digest(self) -> str:
        """See `Network`."""
        sha = hashlib.sha256(str(self.net).encode())
        for name, x in self.net.state_dict().items():
            if hasattr(x, "cpu"):
                sha.update(name.encode() + x.detach().cpu().float().numpy().tobytes())
        return sha.hexdigest()

    def sample(self) -> Any:
        """One batch of zeros; None if nobody knows the size of an image."""
        import torch

        return torch.zeros((2, *self.shape), device=self.device) if self.shape is not None else None


class TorchSimulating:
    """One simulation. See `fewbit.api.simulating.Simulating`."""

    def __init__(self, network: TorchNetwork, config: SimulateConfig) -> None:
        from fewbit.torch.convert import convert_model
        from fewbit.torch.merging import merge_bn

        self.network, self.notes = network, list(network.notes)
        net = copy.deepcopy(network.net)
        if config.merge_bn:
            before = _norms(net)
            merge_bn(net, sample=network.sample())
            if _norms(net) == before:
                self.notes.append(NO_BN)
        first = first_convolution(net, network.sample()) if config.exclude_first_conv else None
        self.first = first
        self.net = convert_model(
            net,
            exclude=[*config.exclude_layers, *([first] if first else [])],
            custom_fn=_converters(net, config, first),
            weight_width=config.weight_bits_width,
            input_width=config.input_bits_width,
            quant_type=config.quant_type,
            input_signed=config.input_signed,
        )
        self.net.quantize_input(True, online=True)
        self.measured = False

    @property
    def layers(self) -> Mapping[str, str]:
        """See `Simulating`."""
        report = self.net.quantization_report()
        return {r.name: "" if r.quantized else FIRST if r.name == self.first else r.how for r in report}

    @property
    def largest(self) -> Mapping[str, float]:
        """See `Simulating`."""
        if not self.measured:
            return {}
        found = {n: getattr(m, "input_quantizer", None) for n, m in self.net.collect_quantized_blocks()}
        return {n: float(q.hi) for n, q in found.items() if q is not None}

    def epoch(self, feeds: Sequence[Feeds]) -> None:
        """See `Simulating`."""
        self._calibrate(feeds, "naive")

    def kl(self, feeds: Sequence[Feeds]) -> None:
        """See `Simulating`."""
        self._calibrate(feeds, "kl")

    def _calibrate(self, feeds: Sequence[Feeds], mode: str) -> None:
        batches = [_tensor(f, self.network.device) for f in feeds]
        with limited(self.network.threads):
            self.net.calibrate_inputs(batches, mode, 1)
        self.measured = True

    def below_zero(self, feeds: Feeds) -> int:
        """See `Simulating`."""
        found: set[str] = set()

        def look(name: str) -> Any:
            return lambda module, given: found.add(name) if float(given[0].min()) < 0 else None

        hooks = [m.register_forward_pre_hook(look(name)) for name, m in self.net.collect_quantized_blocks()]
        self.net.disable_quantize()
        try:
            TorchRunner(self.net, self.network.device, self.network.threads).run(feeds)
        finally:
            self.net.enable_quantize()
            for hook in hooks:
                hook.remove()
        return len(found)

    def runner(self) -> TorchRunner:
        """See `Simulating`."""
        self.net.quantize_input(True, online=not self.measured)
        return TorchRunner(self.net, self.network.device, self.network.threads)

    def result(self) -> dict[str, Any]:
        """See `Simulating`."""
        return {"net": self.net}


class TorchRunner:
    """A torch network that answers as an engine does."""

    def __init__(self, net: Any, device: Any, threads: int | None) -> None:
        self.net, self.device, self.threads = net, device, threads

    def run(self, feeds: Feeds) -> dict[str, Any]:
        """Outputs by name."""
        import torch

        with torch.inference_mode(), limited(self.threads):
            found = self.net(_tensor(feeds, self.device))
        outputs = found if isinstance(found, (tuple, list)) else (found,)
        return {f"output_{i}": x.float().cpu().numpy() for i, x in enumerate(outputs)}

    def profile(self, feeds: Feeds, repeat: int = 10) -> list[NodeTime]:
        """Nothing is timed."""
        return []

    def executed(self) -> list[Executed]:
        """Nothing is told."""
        return []


def first_convolution(net: Any, sample: Any) -> str | None:
    """Name of the convolution that computes first; see `in_order`."""
    from torch.nn.modules.conv import _ConvNd

    return next((name for name, m in in_order(net, sample) if isinstance(m, _ConvNd)), None)


def in_order(net: Any, sample: Any) -> list[tuple[str, Any]]:
    """Convolutions and dense layers in the order in which they compute.

    Seen with a sample, or else in the traced network; if it cannot be traced, in the order of definition.
    """
    import torch
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    from fewbit.torch.trace import traced

    layers = {name: m for name, m in net.named_modules() if isinstance(m, (_ConvNd, nn.Linear))}
    if sample is None:
        with suppress(UnsupportedModel):
            names = [str(n.target) for n in traced(net).graph.nodes if n.op == "call_module"]
            return [(name, layers[name]) for name in names if name in layers]
        return list(layers.items())
    order: list[str] = []
    hooks = [m.register_forward_pre_hook(lambda m, x, name=name: order.append(name)) for name, m in layers.items()]
    try:
        with torch.no_grad():
            net(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return [(name, layers[name]) for name in order]


@contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Let torch use so many cores."""
    import torch

    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _converters(net: Any, config: SimulateConfig, first: str | None) -> dict[Any, Any]:
    """Converters of their own for the 3x3 convolutions that are rounded in the Winograd domain."""
    from torch import nn

    from fewbit.torch.converters import gen_conv2d_converter

    if config.wino_quantize == "none":
        return {}
    from fewbit.torch.tree import selected

    kept = selected(net, [*config.exclude_layers, *([first] if first else [])], "module to exclude")
    made = gen_conv2d_converter(
        weight_width=config.weight_bits_width, input_width=config.input_bits_width, quant_type="channel",
        input_signed=config.input_signed, wino_quantize=config.wino_quantize,
    )  # fmt: skip
    return {
        m: made for m in net.modules() if isinstance(m, nn.Conv2d) and tuple(m.kernel_size) == (3, 3) and m not in kept
    }


def _norms(net: Any) -> int:
    from torch import nn

    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())


def _tensor(feeds: Feeds, device: Any) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(feeds[INPUT])).to(device)


def _shape_of(net: Any) -> tuple[int | None, ...]:
    """Shape of one sample, as far as the first layer tells."""
    from torch.nn.modules.conv import _ConvNd

    layers = in_order(net, None)
    if not layers:
        raise UsageError(f"{type(net).__name__} has no convolution and no dense layer; there is nothing to simulate")
    first = layers[0][1]
    return (first.in_channels, *[None] * len(first.kernel_size)) if isinstance(first, _ConvNd) else (first.in_features,)
