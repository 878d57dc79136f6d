"""What is read is never overwritten, and what cannot be written is said before the work."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from fewbit import api
from fewbit.cli.outputs import output_file
from fewbit.errors import OutputError, UsageError
from fewbit.graph.external import external_files
from tests.cli.conftest import Cli, classifier


@pytest.fixture
def place(data: Path, tmp_path: Path) -> Path:
    """A folder with a network whose weights lie beside it, two samples as .bin and a config file."""
    onnx.save(classifier(), tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
    shutil.copy(data, tmp_path / "data.npz")
    (tmp_path / "raw").mkdir()
    for name in "ab":
        np.ones((3, 6, 6), np.float32).tofile(tmp_path / "raw" / f"{name}.bin")
    (tmp_path / "c.toml").write_text("[data]\nbatch_size = 2\n")
    (tmp_path / "link.onnx").symlink_to("net.onnx")
    return tmp_path


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("verb", ["quantize", "calibrate"])
@pytest.mark.parametrize(
    ("out", "read", "message"),
    [
        ("net.onnx", "data.npz", "is the input itself"),
        ("raw/../net.onnx", "data.npz", "is the input itself"),
        ("link.onnx", "data.npz", "is the input itself"),
        ("c.toml", "data.npz", "is the input itself"),
        ("net.bin", "data.npz", "holds weights of"),
        ("data.npz", "data.npz", "is data that is read"),
        ("data.npz", "x:data.npz", "is data that is read"),
        ("raw/b.bin", "raw", "is data that is read"),
        ("raw/b.bin", "x:raw,z:raw", "is data that is read"),
        ("given.py", "given:batches", "is data that is read"),
    ],
)
def test_what_is_read_is_not_overwritten(
    cli: Cli, place: Path, monkeypatch: pytest.MonkeyPatch, verb: str, out: str, read: str, message: str
) -> None:
    (place / "given.py").write_text("def batches():\n    return []\n")
    monkeypatch.chdir(place)
    before = snapshot(place)
    done = cli(verb, "net.onnx", "-o", out, "--data", read, "--config", "c.toml")
    assert done.code == 2 and message in done.err and done.err.startswith(f"error: the output {out} ")
    assert "give it another name" in done.err and snapshot(place) == before


def test_the_plan_beside_the_output_is_looked_at_too(cli: Cli, place: Path) -> None:
    plan = place / "q.plan.json"
    assert cli("calibrate", place / "net.onnx", "-o", plan, "--data", place / "data.npz").code == 0
    before = snapshot(place)
    done = cli("apply", place / "net.onnx", plan, "-o", place / "q.onnx")
    assert done.code == 2 and f"{plan}, which is written with the output {place / 'q.onnx'}, is the input" in done.err
    assert snapshot(place) == before
    assert cli("apply", place / "net.onnx", plan, "-o", place / "net.bin").code == 2
    assert cli("apply", place / "net.onnx", plan, "-o", place / "r.onnx").code == 0


@pytest.mark.parametrize("verb", ["quantize", "apply"])
def test_a_folder_in_place_of_the_plan_is_said_before_the_work(cli: Cli, place: Path, verb: str) -> None:
    (place / "q.plan.json").mkdir()
    words = [place / "none.json"] if verb == "apply" else ["--data", place / "data.npz"]
    done = cli(verb, place / "net.onnx", *words, "-o", place / "q.onnx")
    assert (
        done.code == 1
        and done.err == f"error: cannot write {place / 'q.plan.json'}: it is a folder; give another name\n"
    )
    assert not (place / "q.onnx").exists()


@pytest.mark.parametrize("verb", ["quantize", "calibrate"])
def test_what_is_no_file_is_not_replaced(cli: Cli, place: Path, verb: str) -> None:
    pipe = place / "pipe"
    os.mkfifo(pipe)
    done = cli(verb, place / "net.onnx", "--data", place / "data.npz", "-o", pipe)
    assert done.code == 1 and "it is not a file" in done.err and pipe.is_fifo()
    with pytest.raises(OutputError, match="cannot write /dev/null: it is not a file"):
        output_file(Path("/dev/null"), place / "net.onnx")


def test_a_file_that_is_not_read_may_be_replaced(place: Path) -> None:
    for name in ("old.onnx", "old.bin", "raw/old.json"):
        (place / name).touch()
        assert output_file(place / name, place / "net.onnx", None, data=str(place / "raw"), network=True)


def test_the_output_is_needed(place: Path) -> None:
    with pytest.raises(UsageError, match="give one with -o FILE"):
        output_file(None, place / "net.onnx")


def test_files_of_weights_are_found_wherever_a_tensor_lies(place: Path) -> None:
    assert external_files(place / "net.onnx") == {place / "net.bin"}
    assert external_files(place / "data.npz") == external_files(place / "none.onnx") == frozenset()
    proto = onnx.load(place / "net.onnx", load_external_data=False)
    inner = onnx.helper.make_graph(list(proto.graph.node), "inner", [], [], list(proto.graph.initializer))
    del proto.graph.initializer[:], proto.graph.node[:]
    proto.graph.node.append(onnx.helper.make_node("If", ["q"], ["y"], then_branch=inner, else_branch=inner))
    onnx.save(proto, place / "deep.onnx")
    assert external_files(place / "deep.onnx") == {place / "net.bin"}


def test_in_python_a_network_does_not_overwrite_the_one_it_came_from(place: Path) -> None:
    made = api.quantize(place / "net.onnx", place / "data.npz", verify=False)
    before = snapshot(place)
    for name in ("net.onnx", "link.onnx"):
        with pytest.raises(OutputError, match=r"it is the float network that this one was made from; give it another"):
            made.save(place / name)
    assert snapshot(place) == before


@pytest.mark.parametrize(
    ("verb", "file"), [("compare", "layers.csv"), ("compare", "summary.json"), ("verify", "engines.json")]
)
def test_folders_of_tables_lose_nothing_that_is_read(cli: Cli, place: Path, verb: str, file: str) -> None:
    net, data = place / "net.onnx", place / "data.npz"
    assert cli("quantize", net, "-o", place / "q.onnx", "--data", data, "--no-verify").code == 0
    (place / "out").mkdir()
    (place / "out" / file).symlink_to(place / "q.plan.json")
    before = snapshot(place)
    done = cli(verb, net, place / "q.onnx", "--data", data, "--save", place / "out")
    assert done.code == 2 and f"{file}, which is written with the output" in done.err and "input itself" in done.err
    (place / "out" / file).unlink()
    (place / "out" / file).mkdir()
    done = cli(verb, net, place / "q.onnx", "--data", data, "--save", place / "out")
    assert done.code == 1 and "it is a folder" in done.err and snapshot(place).items() <= before.items()
    (place / "out" / file).rmdir()
    assert cli(verb, net, place / "q.onnx", "--data", data, "--save", place / "out").code == 0


def test_weights_beside_what_is_written_are_looked_at(place: Path, cli: Cli) -> None:
    onnx.save(classifier(), place / "m.onnx", save_as_external_data=True, location="x.onnx.data", size_threshold=0)
    before = snapshot(place)
    done = cli("convert", place / "m.onnx", "-o", place / "x.onnx")
    assert done.code == 2 and "holds weights of" in done.err and snapshot(place) == before
