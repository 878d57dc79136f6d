"""Who reads what a layer gives, and what a BatchNorm takes: from a trace of forward, or from a run.

    y = conv(x); z = relu(bn(y)) + y        readers[conv] = {bn, "add"}     sources[bn] = {conv}

A trace (torch.fx) sees every call of both modes, but no forward that decides by the values that it sees. A run on a
sample sees exactly what this sample meets. Reading only the shape of a value does not count.
"""

from __future__ import annotations

import copy
import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from fewbit.errors import UnsupportedModel

LAYERS = (_ConvNd, nn.Linear)
NORMS = (_BatchNorm,)
SHAPE = {"shape", "size", "dim", "ndim", "numel", "dtype", "device", "layout", "is_cuda", "requires_grad", "is_nested"}
UNTRACEABLE = (  # what a forward raises when it is given proxies instead of tensors
    fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError, LookupError, AssertionError,
)  # fmt: skip

Part: TypeAlias = nn.Module | str


@dataclass
class Reads:
    """What is known about the flow of values.

    Args:
        readers: layer → who reads what it gives: modules, or words for functions.
        sources: BatchNorm → who made what it takes.
        ranks: BatchNorm → numbers of axes of what it takes; a trace does not know them.
        peeked: layers whose weight is read past their forward.
    """

    readers: dict[nn.Module, set[Part]] = field(default_factory=lambda: defaultdict(set))
    sources: dict[nn.Module, set[Part]] = field(default_factory=lambda: defaultdict(set))
    ranks: dict[nn.Module, set[int]] = field(default_factory=lambda: defaultdict(set))
    peeked: set[nn.Module] = field(default_factory=set)


def reads(net: nn.Module, sample: Any = None) -> Reads:
    """Trace the network and, given a sample, run it as well.

    Args:
        sample: a tensor, a tuple of what forward takes, or a dict of its named arguments.

    Raises:
        UnsupportedModel: forward cannot be traced and there is no sample.
    """
    found = Reads()
    try:
        for training in (False, True):
            _trace(net, training, found)
    except UNTRACEABLE as e:
        if sample is None:
            why = (str(e).strip() or type(e).__name__).splitlines()[0]
            raise UnsupportedModel(
                f"which BatchNorm follows which layer cannot be read from the forward of {type(net).__name__}: {why}. "
                "Give sample=, one batch of inputs: the network is run on it instead"
            ) from e
        found = Reads()
    if sample is not None:
        _run(net, sample, found)
    return found


def call(net: nn.Module, sample: Any) -> Any:
    """Run a network on a tensor, a tuple of positional or a dict of named arguments."""
    if isinstance(sample, Mapping):
        return net(**sample)
    return net(*sample) if isinstance(sample, tuple | list) else net(sample)


@contextmanager
def in_mode(net: nn.Module, training: bool) -> Iterator[None]:
    """Every module in training or in evaluation mode for a while; each gets back what it had."""
    before = {m: m.training for m in net.modules()}
    for m in before:
        m.training = training
    try:
        yield
    finally:
        for m, was in before.items():
            m.training = was


class _Tracer(fx.Tracer):
    """Looks into modules that are made of others, but into no layer of PyTorch's or ours."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        ours = isinstance(m, LAYERS + NORMS) or not any(True for _ in m.children())
        return ours or super().is_leaf_module(m, module_qualified_name)


def _trace(net: nn.Module, training: bool, found: Reads) -> None:
    """Add what a trace of forward tells, optional arguments at their defaults."""
    plain = (v for m in net.modules() for v in m.__dict__.values() if isinstance(v, Tensor))  # pruned weights, caches
    shared = {id(t): t for t in chain(net.parameters(), net.buffers(), plain)}
    twin = copy.deepcopy(net, shared)  # forward may store on its module what it made
    original = dict(zip((n for n, _ in twin.named_modules()), net.modules(), strict=True))
    arguments = inspect.signature(twin.forward).parameters.values()
    defaults = {p.name: p.default for p in arguments if p.default is not p.empty}
    with in_mode(twin, training):
        graph = _Tracer().trace(twin, defaults or None)
    for node in graph.nodes:
        if node.op == "get_attr":
            owner = original.get(str(node.target).rpartition(".")[0])
            if isinstance(owner, LAYERS):
                found.peeked.add(owner)
        elif node.op == "call_module":
            module = original[str(node.target)]
            if isinstance(module, NORMS):
                found.sources[module] |= {_part(n, original) for n in node.all_input_nodes}
            if isinstance(module, LAYERS):
                found.readers[module] |= {_part(n, original) for n in node.users if not _shape_only(n)}


def _part(node: fx.Node, modules: dict[str, nn.Module]) -> Part:
    if node.op == "call_module":
        return modules[str(node.target)]
    if node.op in ("call_function", "call_method"):
        return getattr(node.target, "__name__", str(node.target))
    words = {"output": "the output of the network", "get_attr": f"{node.target}, a tensor of the network,"}
    return words.get(node.op, "an input of the network")


def _shape_only(node: fx.Node) -> bool:
    what = node.args[1] if node.op == "call_function" and node.target is getattr else node.target
    return what in SHAPE if node.op in ("call_method", "call_function") and isinstance(what, str) else False


class _Watch(TorchFunctionMode):
    """Notes every function that is called on what a layer gave, or on a layer's weight."""

    def __init__(self, net: nn.Module, found: Reads) -> None:
        super().__init__()
        self.names = {m: name for name, m in net.named_modules()}
        self.found = found
        self.stack: list[nn.Module] = []
        self.made: dict[int, tuple[Tensor, Part]] = {}  # the tensor is kept, so that its id stays its own
        self.owners: dict[int, set[nn.Module]] = defaultdict(set)
        for m in self.names:
            if isinstance(m, LAYERS):
                for p in m.parameters(recurse=False):
                    self.owners[id(p)].add(m)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(getattr(func, "__self__", None), "__name__", "") or getattr(func, "__name__", str(func))
        if name not in SHAPE and getattr(func, "__name__", "") not in SHAPE:
            for x in self._tensors((args, kwargs)):
                self._read(x, getattr(func, "__name__", name))
        return func(*args, **(kwargs or {}))

    def _read(self, x: Tensor, by: str) -> None:
        inside, at = set(self.stack), self.stack[-1] if self.stack else None  # None: a hook on the network itself
        maker = self._maker(x)
        if isinstance(maker, nn.Module) and maker not in inside and not isinstance(at, NORMS):
            where = self.names[at] if at else ""
            self.found.readers[maker].add(by + (f" in {where}" if where else ""))
        owners = self.owners.get(id(x), set())
        if not owners & inside:
            self.found.peeked |= owners

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A module is called."""
        if not self.made:
            self.made = {id(x): (x, "an input of the network") for x in self._tensors((args, kwargs))}
        if isinstance(module, NORMS):
            for x in self._tensors((args, kwargs)):
                maker = self._maker(x)
                self.found.sources[module].add(maker)
                self.found.ranks[module].add(x.ndim)
                if isinstance(maker, nn.Module):
                    self.found.readers[maker].add(module)
        self.stack.append(module)

    def leave(self, module: nn.Module, args: Any, out: Any) -> None:
        """A module has returned."""
        self.stack.pop()
        if isinstance(module, LAYERS) and isinstance(out, Tensor):
            self.made[id(out)] = (out, module)

    def end(self, out: Any) -> None:
        """The network has returned."""
        for x in self._tensors(out):
            maker = self._maker(x)
            if isinstance(maker, nn.Module):
                self.found.readers[maker].add("the output of the network")

    def _maker(self, x: Tensor) -> Part:
        return self.made[id(x)][1] if id(x) in self.made else "something that is no layer"

    def _tensors(self, x: Any) -> list[Tensor]:
        return [t for t in tree_leaves(x) if isinstance(t, Tensor)]


def _run(net: nn.Module, sample: Any, found: Reads) -> None:
    """Add what a run on the sample tells, in evaluation mode."""
    watch = _Watch(net, found)
    handles = []
    try:
        for m in watch.names:
            handles.append(m.register_forward_pre_hook(watch.enter, with_kwargs=True))
            handles.append(m.register_forward_hook(watch.leave))
        with in_mode(net, False), torch.no_grad(), watch:
            watch.end(call(net, sample))
    finally:
        for handle in handles:
            handle.remove()
