"""What people train with does not break: torch.compile, parallel training, mixed precision."""

from __future__ import annotations

import socket
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fewbit.errors import FewbitWarning, UnsupportedModel
from fewbit.torch.convert import convert_model
from tests.torch.small_nets import NETS, made

WAYS: list[dict[str, Any]] = [{}, {"fake_bn": "batch"}, {"fake_bn": "running"}, {"learned": True}]


def converted(name: str, **words: Any) -> tuple[nn.Module, Tensor]:
    net, x = made(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewbitWarning)
        return convert_model(net, **({"input_signed": True, "weight_width": 5} | words)), x


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # the compiler's own doing
@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("tied", {"learned": True, "fake_bn": "running"}, marks=pytest.mark.slow),
        *(pytest.param(name, w, marks=pytest.mark.slow) for name in ("residual", "shared", "transposed") for w in WAYS),
    ],
    ids=str,
)
def test_compiled_it_trains_and_evaluates_the_same(name: str, words: dict[str, Any]) -> None:
    torch.compiler.reset()
    plain, x = converted(name, **words)
    net, _ = converted(name, **words)
    plain.qparams_init(x)
    net.qparams_init(x)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        for one in (plain, compiled):
            one(x).square().mean().backward()
            one.update_ema()  # a compiled network hands it on
    for (key, p), q in zip(plain.named_parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5, msg=key)
    for one in (plain, compiled):
        one.eval()
        one.quantize_input(online=False)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), plain(x), rtol=1e-4, atol=1e-5)
        compiled.disable_quantize()
        plain.disable_quantize()
        torch.testing.assert_close(compiled(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("words", WAYS, ids=str)
@pytest.mark.parametrize("name", NETS)
def test_mixed_precision(name: str, words: dict[str, Any]) -> None:
    net, x = converted(name, **words)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = net(x).float().square().mean()
    loss.backward()
    net.update_ema()
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    assert len(grads) > 2 and all(torch.isfinite(g).all() and g.dtype == torch.float32 for g in grads)
    assert all(m.input_quantizer.scale.dtype == torch.float32 for _, m in net.collect_quantized_blocks())
    net.eval()
    with torch.no_grad():
        want = net(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = net(x).float()
    assert float((got - want).abs().max()) <= 0.15 * float(want.abs().max())


@pytest.mark.parametrize("name", NETS)
def test_half_precision_network(name: str) -> None:
    net, x = converted(name)
    net.to(torch.bfloat16)
    net(x.bfloat16()).float().square().mean().backward()
    net.update_ema()
    assert all(m.input_quantizer.scale.dtype == torch.float32 for _, m in net.collect_quantized_blocks())


def replica(net: nn.Module) -> nn.Module:
    """What nn.DataParallel makes for each device: shallow copies, with copies of the tensors in place of them."""
    copies = {m: m._replicate_for_data_parallel() for m in net.modules()}
    tensors = {id(t): t.clone() for t in [*net.parameters(), *net.buffers()]}
    for m, other in copies.items():
        for name, child in m._modules.items():
            if child is not None:
                setattr(other, name, copies[child])
        for name, p in m._parameters.items():
            setattr(other, name, None if p is None else tensors[id(p)])
        for name, b in m._buffers.items():
            if b is not None:
                other._buffers[name] = tensors[id(b)]
    return copies[net]


@pytest.mark.parametrize("words", [{"fake_bn": "batch"}, {"fake_bn": "running"}, {"learned": True}], ids=str)
@pytest.mark.parametrize("name", ["plain", "residual", "transposed"])
def test_replicas_of_data_parallel(name: str, words: dict[str, Any]) -> None:
    net, x = converted(name, **words)
    net.qparams_init(x)
    wrapped = nn.DataParallel(net)
    other = replica(net)
    out = other(x)
    torch.testing.assert_close(out, net(x))
    out.square().mean().backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)
    other.disable_quantize()  # acts on the replica
    assert all(m.quantize_enabled for _, m in net.collect_quantized_blocks())
    torch.testing.assert_close(wrapped(x), net(x))
    wrapped.module.update_ema()


PARALLEL = {"running": {"fake_bn": "running"}, "learned": {"learned": True, "fake_bn": "batch"}}


def _steps(words: dict[str, Any], rank: int) -> nn.Module:
    """Two steps of DistributedDataParallel with this process's share of the data."""
    net, x = converted("residual", **words)
    net.qparams_init(x)
    parallel = DistributedDataParallel(net)
    for _ in range(2):
        parallel.zero_grad()
        parallel(x * (1 + rank)).square().mean().backward()
        net.update_ema()
        with torch.no_grad():  # torch.optim would load the compiler, which takes seconds
            for p in net.parameters():
                p.sub_(0.01 * p.grad)
    net.quantize_input(online=False)
    return parallel


def test_steps_of_distributed_training() -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        start = dict(converted("residual", fake_bn="running")[0].named_parameters())
        trained = _steps(PARALLEL["running"], 0).module
        assert not torch.equal(trained.fc.weight, start["fc.weight"])
        assert all(torch.isfinite(x).all() for x in trained.state_dict().values() if torch.is_tensor(x))
    finally:
        torch.distributed.destroy_process_group()


def _train(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        for way, words in PARALLEL.items():
            parallel = _steps(words, rank)
            net = parallel.module
            torch.save(net.state_dict(), Path(folder) / f"{way}{rank}.pt")
        with pytest.raises(UnsupportedModel, match=r"this is DistributedDataParallel.*before it is wrapped"):
            convert_model(parallel)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_train, (port, str(tmp_path)), nprocs=2)
    for way, words in PARALLEL.items():
        one, other = (torch.load(tmp_path / f"{way}{rank}.pt") for rank in (0, 1))
        net, x = converted("residual", **words)
        start = dict(net.named_parameters())
        for key in start:
            assert torch.equal(one[key], other[key]), key
        assert not torch.equal(one["fc.weight"], start["fc.weight"])
        net.eval().load_state_dict(one)
        assert torch.isfinite(net(x)).all()
