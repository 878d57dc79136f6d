"""fewbit beside MXNet 1.9.1 on the same checkpoints and images: ranges, thresholds, error, latency, calibration time.

python bench/mxnet/compare.py --oracle PYTHON [--networks resnet18_v1,resnet50_v1,mobilenet1.0] [--images 32]

PYTHON is the interpreter of an environment with mxnet==1.9.1 (see oracle.py). Photographs come from the zoo of
bench/zoo; float scores are MXNet's. Latency is taken in turns in two processes, with one thread each and with two.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from common import table, write
from zoo.nets import NETWORKS

import fewbit as fb
from fewbit.engines import open_runner
from fewbit.frontends.mxnet.ndarray import load_ndarrays, save_ndarrays

MEAN, STD = np.array([123.68, 116.779, 103.939]), np.array([58.393, 57.12, 57.375])
SLICE = 2.0  # seconds of a turn


class Oracle:
    """The other process.

    Args:
        python: its interpreter. threads: that it may use.
    """

    def __init__(self, python: str, threads: int) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "MXNET_CPU_WORKER_NTHREADS": "1"}
        command = [python, str(Path(__file__).with_name("oracle.py"))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def __call__(self, do: str, **words: Any) -> dict[str, float]:
        """Have something done."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **words}) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("ANSWER "):
                answer: dict[str, float] = json.loads(line.removeprefix("ANSWER "))
                return answer
        raise SystemExit("the oracle died; see above")

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def photographs(count: int) -> np.ndarray:
    """Photographs of the zoo, normalized as the Gluon zoo wants them, (N, 3, 224, 224)."""
    network = NETWORKS["efficientnet_lite0"]
    raw = [next(iter(f.values())) for f, _ in zip(network.calib(), range(count), strict=False)]
    pixels = np.concatenate(raw)[:count] * 128 + 127
    return ((pixels - MEAN[:, None, None]) / STD[:, None, None]).astype(np.float32)


def sqnr(reference: np.ndarray, found: np.ndarray) -> float:
    """dB of scores against float ones."""
    return float(10 * np.log10((reference.astype(np.float64) ** 2).sum() / ((reference - found) ** 2).sum()))


def outputs(model: fb.Model, engine: str, images: np.ndarray) -> np.ndarray:
    """Scores, image by image."""
    runner, name = open_runner(engine, model), model.inputs[0].name
    return np.concatenate([next(iter(runner.run({name: x[None]}).values())) for x in images])


def ranges_of(model: fb.Model, images: np.ndarray, mode: str) -> dict[str, tuple[float, float]]:
    """fewbit's ranges by value."""
    fused = fb.fuse(model)
    plan = fb.calibrate(
        fused, fb.make_plan(fused, calib_mode=mode, quantize_mode="full"), {model.inputs[0].name: images}
    )
    return {n: (v.lo, v.hi) for n, v in plan.values.items() if v.role == "act" and n in plan.observed()}


def one(
    name: str, oracle: Oracle, serial: Oracle, calib: np.ndarray, test: np.ndarray, folder: Path, rounds: int
) -> dict[str, Any]:
    """All figures of one network."""
    prefix, data, held = str(folder / name), str(folder / "calib.npy"), str(folder / "test.npy")
    oracle("make", net=name, data=str(folder / "all.npy"), prefix=prefix)
    shape = list(calib.shape[1:])
    for side in (oracle, serial):
        side("load", prefix=prefix, key="float", shape=[1, *shape])
    model = fb.load(prefix, input_shapes={"data": (None, *shape)})
    found: dict[str, Any] = {"imported": imported(model, oracle, held, test, folder)}
    walls = {"naive": [], "entropy": []}  # type: dict[str, list[float]]
    ours: dict[str, list[float]] = {"naive": [], "entropy": []}
    for mode in walls:
        for _ in range(3):
            answer = oracle(
                "quantize",
                prefix=prefix,
                data=data,
                mode=mode,
                key=mode,
                ranges=str(folder / f"{mode}.npz"),
                batches=[1],
            )
            walls[mode].append(answer["wall"])
            start = time.perf_counter()
            loaded = fb.load(prefix, input_shapes={"data": (None, *shape)})
            fb.quantize(loaded, {"data": calib}, calib_mode=mode, effort="fast", verify=False)
            ours[mode].append(time.perf_counter() - start)
    found["wall"] = {
        m: {"mxnet": median(walls[m]), "fewbit": median(ours[m]), "ratio": median(ours[m]) / median(walls[m])}
        for m in walls
    }
    found["sqnr"] = errors(model, oracle, calib, held, test, folder)
    mine, kept = {m: ranges_of(model, calib, m) for m in walls}, {m: folder / f"{m}.npz" for m in walls}
    names = directly(mine["naive"], f"{prefix}-naive", kept["naive"])
    found["ranges"] = {m: compared(mine[m], f"{prefix}-{m}", names, kept[m]) for m in walls}
    found["latency"], ranges = {}, str(folder / "unused.npz")
    for threads, side in ((1, serial), (2, oracle)):
        side("quantize", prefix=prefix, data=data, mode="naive", key="int8", ranges=ranges, batches=[1, 32])
        for batch in (1, 32):
            found["latency"][f"{threads}/{batch}"] = latency(model, side, calib, batch, threads, rounds)
    return found


def imported(model: fb.Model, oracle: Oracle, held: str, test: np.ndarray, folder: Path) -> dict[str, float]:
    """How far the imported float network is from MXNet."""
    oracle("run", key="float", data=held, out=str(folder / "float.npy"))
    reference = np.load(folder / "float.npy")
    got = outputs(model, "onnxruntime", test)
    return {"difference": float(np.abs(reference - got).max()), "size": float(np.abs(reference).mean())}


def errors(
    model: fb.Model, oracle: Oracle, calib: np.ndarray, held: str, test: np.ndarray, folder: Path
) -> dict[str, float]:
    """SQNR of MXNet's int8 and of ours, against MXNet's float scores."""
    reference, found = np.load(folder / "float.npy"), {}
    for mode in ("naive", "entropy"):
        oracle("run", key=f"{mode}/1", data=held, out=str(folder / "q.npy"))
        found[f"mxnet {mode}"] = sqnr(reference, np.load(folder / "q.npy"))
        for effort in ("fast", "default"):
            q = fb.quantize(model, {"data": calib}, calib_mode=mode, effort=effort, verify=False)
            found[f"fewbit {mode} {effort}"] = sqnr(reference, outputs(q, "onnxruntime", test))
        q = fb.quantize(model, {"data": calib}, calib_mode=mode, target="openvino", verify=False)
        found[f"fewbit {mode} default, OpenVINO"] = sqnr(reference, outputs(q, "openvino", test))
    return found


def directly(ours: dict[str, tuple[float, float]], integer: str, kept: Path) -> set[str]:
    """Values that MXNet's collector looked at, as naive calibration tells: one of its ranges is ours, to 0.01 %.

    Ranges that follow from others, such as that of a convolution inside a fused sum, are left aside so.
    """
    exact = [float(np.abs(e).max()) for e in np.load(kept).values()]
    mine = {n: max(map(abs, ours[n])) for n in fb.load(integer).ranges if n in ours}
    return {n for n, x in mine.items() if any(abs(x - e) <= 1e-4 * e for e in exact)}


def compared(ours: dict[str, tuple[float, float]], integer: str, names: set[str], kept: Path) -> dict[str, Any]:
    """Ranges of values that MXNet calibrated, beside ours; the larger magnitude of each counts.

    Args:
        integer: MXNet's integer network, which has its ranges in six decimals. names: see `directly`.
        kept: ranges that its collector held, exactly; where one has the same six decimals, it is taken instead.
    """
    exact = [float(np.abs(e).max()) for e in np.load(kept).values()]
    groups: dict[tuple[float, float], list[str]] = {}  # a range may be that of several values: pooling hands it on
    for name, pair in fb.load(integer).ranges.items():
        if name in names:
            groups.setdefault(pair, []).extend([name] if name in ours else [])
    found = []
    for pair, same in groups.items():
        theirs = max(map(abs, pair))
        theirs = next((e for e in exact if abs(e - theirs) < 6e-7), theirs)
        found += [min(abs(max(map(abs, ours[n])) - theirs) / max(theirs, 1e-30) for n in same)] if same else []
    return {"values": len(found), "worst": max(found), "within 1 %": sum(d <= 0.01 for d in found)}


def latency(
    model: fb.Model, oracle: Oracle, calib: np.ndarray, batch: int, threads: int, rounds: int
) -> dict[str, float]:
    """Median seconds in turns: our int8 in OpenVINO and ONNX Runtime, MXNet's int8; as many threads each."""
    shape, seen = list(calib.shape[1:]), {"mxnet": [], "openvino": [], "onnxruntime": []}  # type: tuple[list[int], dict[str, list[float]]]
    feed = {model.inputs[0].name: np.random.default_rng(0).standard_normal((batch, *shape)).astype(np.float32)}
    runners = {}
    for engine in ("openvino", "onnxruntime"):
        q = fb.quantize(model, {"data": calib}, target=engine, effort="fast", verify=False)
        runners[engine] = open_runner(engine, q, threads=threads)
        runners[engine].run(feed)
    for _ in range(rounds):
        seen["mxnet"].append(oracle("clock", key=f"int8/{batch}", batch=batch, shape=shape, seconds=SLICE)["median"])
        for engine, runner in runners.items():
            times, end = [], time.perf_counter() + SLICE
            while time.perf_counter() < end or len(times) < 3:
                start = time.perf_counter()
                runner.run(feed)
                times.append(time.perf_counter() - start)
            seen[engine].append(median(times))
    found = {k: median(v) for k, v in seen.items()}
    return found | {
        "ratio": found["openvino"] / found["mxnet"],
        "onnxruntime ratio": found["onnxruntime"] / found["mxnet"],
    }


def params_speed(folder: Path) -> dict[str, float]:
    """Seconds to read a .params file of 240 MB, warm."""
    rng = np.random.default_rng(0)
    path = folder / "large.params"
    save_ndarrays(path, {f"arg:w{i}": rng.standard_normal((1000, 1000)).astype(np.float32) for i in range(60)})
    load_ndarrays(path)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        load_ndarrays(path)
        times.append(time.perf_counter() - start)
    return {"MB": path.stat().st_size / 1e6, "seconds": median(times)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--oracle", required=True)
    parser.add_argument("--networks", default="resnet18_v1,resnet50_v1,mobilenet1.0")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    images = photographs(args.images + 32)
    calib, test = images[: args.images], images[args.images :]
    data: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "calib.npy", calib)
        np.save(folder / "test.npy", test)
        np.save(folder / "all.npy", images)  # for BatchNorm's statistics: no image may be new to the network
        data["params"] = params_speed(folder)
        oracle, serial = Oracle(args.oracle, 2), Oracle(args.oracle, 1)
        for network in args.networks.split(","):
            data[network] = one(network, oracle, serial, calib, test, folder, args.rounds)
            print(network, json.dumps(data[network]), file=sys.stderr)
        oracle.close()
        serial.close()
    write("mxnet", data, page(data))


def page(data: dict[str, Any]) -> str:
    """The tables."""
    nets = {k: v for k, v in data.items() if k != "params"}
    parts = [f"A .params file of {data['params']['MB']:.0f} MB is read in {data['params']['seconds']:.2f} s."]
    rows = [[n, v["imported"]["difference"], v["imported"]["size"]] for n, v in nets.items()]
    parts.append(table(["network", "largest difference to MXNet, float", "mean size of scores"], rows))
    rows = [[n, m, *v["ranges"][m].values()] for n, v in nets.items() for m in v["ranges"]]
    parts.append(
        table(["network", "calibration", "values that both calibrate", "worst difference", "within 1 %"], rows)
    )
    keys = list(next(iter(nets.values()))["sqnr"])
    parts.append(table(["SQNR, dB", *nets], [[k, *(v["sqnr"][k] for v in nets.values())] for k in keys]))
    rows = [[n, m, w["mxnet"], w["fewbit"], w["ratio"]] for n, v in nets.items() for m, w in v["wall"].items()]
    parts.append(table(["network", "calibration", "MXNet, s", "fewbit, s", "ratio"], rows))
    rows = []
    for n, v in nets.items():
        for key, t in v["latency"].items():
            times = [1e3 * t[k] for k in ("mxnet", "openvino", "onnxruntime")]
            rows.append([n, *key.split("/"), *times, t["ratio"], t["onnxruntime ratio"]])
    head = ["network", "threads", "batch", "MXNet int8, ms", "OpenVINO, ms", "ONNX Runtime, ms", "OpenVINO ÷ MXNet"]
    head.append("ONNX Runtime ÷ MXNet")
    parts.append(table(head, rows))
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
