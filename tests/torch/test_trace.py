"""A traced network answers as the network does: in-place statements, dropout, names; no export needed to see it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewbit.errors import UnsupportedModel
from fewbit.torch.guards import answers, check_trace
from fewbit.torch.trace import conv_bn_pairs, traced

Forward = Callable[[Any, Tensor], Any]


class Net(nn.Module):
    """Layers to write forwards with; relu works in place."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.relu = nn.ReLU(inplace=True)
        self.register_buffer("kept", torch.zeros(1))
        self._forward = forward

    def forward(self, x: Tensor) -> Any:
        return self._forward(self, x)


def relu_alone(s: Any, x: Tensor) -> Any:
    y = s.a(x)
    F.relu(y, inplace=True)
    return s.c(s.b(y))


def module_alone(s: Any, x: Tensor) -> Any:
    y = s.b(s.a(x))
    s.relu(y)
    return s.c(y) + y.mean(1, keepdim=True)


def add_alone(s: Any, x: Tensor) -> Any:
    y = s.a(x)
    z = s.b(y)
    y.add_(z).mul_(2)
    return s.c(y) + s.c(z)


def add_of_another_name(s: Any, x: Tensor) -> Any:
    y = s.a(x)
    z = y
    y += s.b(y)
    y *= 0.5
    return s.c(z) + s.c(y)


def everything(s: Any, x: Tensor) -> Any:
    y = F.relu(s.a(x), inplace=True)
    z = s.b(y)
    z.add_(y)
    torch.relu_(z)
    F.leaky_relu_(y, 0.1)
    F.hardtanh(z, 0, 2, inplace=True)
    z.clamp_(0, 1)
    z.__iadd__(y)
    return s.c(z.sub_(y, alpha=2))


def view_of_nobody_else(s: Any, x: Tensor) -> Any:
    y = s.a(x).flatten(2)
    y.relu_()
    height = x.shape[2]
    before = height
    height //= 2
    y += before - height
    return y.view(x.shape[0], 8, before, -1)


@pytest.mark.parametrize(
    "forward", [relu_alone, module_alone, add_alone, add_of_another_name, everything, view_of_nobody_else]
)
def test_what_is_written_in_place_is_a_value_of_its_own(forward: Forward) -> None:
    net, x = Net(forward), torch.randn(2, 3, 6, 6)
    graph = traced(net)
    first = x.clone()
    torch.testing.assert_close(graph(x), net(x.clone()))
    assert torch.equal(x, first)
    assert net.relu.inplace
    assert not any(getattr(m, "inplace", False) for m in graph.modules())
    graph(x).sum().backward()


def write_to_view(s: Any, x: Tensor) -> Any:
    y = s.a(x)
    v = y[:, :4]
    v.relu_()
    return s.c(s.b(y))


def add_to_part(s: Any, x: Tensor) -> Any:
    y = s.a(x)
    v, _ = y.chunk(2, 1)
    v += 1
    return s.c(y)


def seen_through_a_view(s: Any, x: Tensor) -> Any:
    y = s.a(x)
    v = y.transpose(2, 3)
    s.relu(y)
    return s.c(v)


def set_a_part(s: Any, x: Tensor) -> Any:
    y = s.a(x)
    y[:, 0] = 0
    return s.c(y)


def into_a_result(s: Any, x: Tensor) -> Any:
    y = s.a(x)
    torch.add(y, 1, out=y)
    return s.c(y)


def into_a_buffer(s: Any, x: Tensor) -> Any:
    y = s.a(x)
    s.kept.add_(y.mean())
    return s.c(y)


def by_filling(s: Any, x: Tensor) -> Any:
    y = s.a(x)
    y.zero_()
    return s.c(y)


@pytest.mark.parametrize(
    ("forward", "line"),
    [
        (write_to_view, "v.relu_()"),
        (add_to_part, "v += 1"),
        (seen_through_a_view, "s.relu(y)"),
        (set_a_part, "y[:, 0] = 0"),
        (into_a_result, "torch.add(y, 1, out=y)"),
        (into_a_buffer, "s.kept.add_(y.mean())"),
        (by_filling, "y.zero_()"),
    ],
)
def test_a_write_that_is_seen_elsewhere_is_refused_by_its_line(forward: Forward, line: str) -> None:
    with pytest.raises(UnsupportedModel) as e:
        traced(Net(forward))
    assert f"`{line}` (test_trace.py, line" in str(e.value)
    assert "out of place" in str(e.value)


class Dropouts(nn.Module):
    """All three kinds of dropout as a function, and a layer that has the name that one would get."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.dropout_3 = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = F.dropout(self.a(x), 0.5, training=False)
        y = F.dropout(y, 0.5, self.training, True)
        return F.dropout(self.dropout_3(y), 0.9, training=True)


def test_dropout_is_never_always_or_as_the_mode_says() -> None:
    net = Dropouts()
    graph = traced(net)
    assert type(graph.dropout_3) is nn.Linear
    assert [type(m) for m in graph.children()].count(nn.Dropout) == 1
    assert sum(n.target is F.dropout for n in graph.graph.nodes) == 1
    x = torch.randn(64, 8)
    for training in (True, False):
        torch.manual_seed(0)
        one = graph.train(training)(x)
        torch.manual_seed(0)
        assert torch.equal(one, net.train(training)(x))


def test_a_trace_is_compared_with_the_network() -> None:
    net, x = Net(relu_alone).eval(), torch.randn(2, 3, 6, 6)
    net.register_forward_hook(lambda m, i, o: o * 2)
    with pytest.raises(UnsupportedModel, match="a hook is attached to the Net itself"):
        traced(net)
    net._forward_hooks.clear()
    graph = traced(net)
    check_trace(net, graph, [x], answers(net, [x]))
    assert all("tensor_meta" in n.meta for n in graph.graph.nodes)
    with pytest.raises(UnsupportedModel, match="Net, traced, does not answer what the network itself answers"):
        check_trace(net, graph, [x], [2 * y for y in answers(net, [x])])


def pairs(net: nn.Module, x: Tensor) -> list[tuple[str, str]]:
    graph = traced(net.eval())
    check_trace(net, graph, [x], answers(net, [x]))
    return [(str(a.target), str(b.target)) for a, b in conv_bn_pairs(graph)]


def test_who_takes_a_batchnorm() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.Dropout(), nn.BatchNorm1d(8))
    assert pairs(net, torch.randn(4, 6)) == [("0", "1")]
    tokens = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(4))
    assert pairs(tokens, torch.randn(4, 4, 6)) == []
    convs = nn.Sequential(
        nn.ConvTranspose2d(4, 6, 2, groups=2), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4)
    )
    assert pairs(convs, torch.randn(4, 4, 5, 5)) == [("0", "1"), ("2", "3")]
    convs[2].register_forward_hook(lambda m, i, o: None)
    assert pairs(copy.deepcopy(convs), torch.randn(4, 4, 5, 5)) == [("0", "1")]
