"""What the scripts of a folder say to files that do not fit, and to a folder that is not as it was written."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import fewbit as fb
from tests.models import info, load, node, proto, weight

Load = Callable[[Path, str], ModuleType]


def network() -> fb.Model:
    """Image and two rows of numbers → scores; 5 steps at most, as the table has no more."""
    nodes = [
        node("Flatten", "image", "flat"),
        node("MatMul", "flat w", "h"),
        node("Add", "steps table", "s"),
        node("ReduceMean", "s", "t", axes=[1], keepdims=1),
        node("Cast", "kind", "k", to=1),
        node("Sum", "h t k", "scores"),
    ]
    inputs = [
        info("image", ["n", 3, 6, 6]),
        info("steps", ["n", "steps"]),
        info("kind", ["n", 1], onnx.TensorProto.INT64),
    ]
    weights = {"w": weight(108, 3), "table": weight(1, 5)}
    return load(proto(nodes, inputs, [info("scores", ["n", 3])], weights))


FEEDS = {
    "image": np.ones((3, 3, 6, 6), np.float32),
    "steps": np.ones((3, 5), np.float32),
    "kind": np.arange(3)[:, None],
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes") / "out"
    q = fb.quantize(network(), FEEDS, verify=False, quantize_mode="full", effort="fast")
    fb.deploy(q, "onnxruntime", folder, data=FEEDS)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy that may be broken."""
    shutil.copytree(written, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a user's: image.npy, steps.npy, kind.npy fit."""
    place = tmp_path_factory.mktemp("files")
    for name, x in FEEDS.items():
        np.save(place / name, x[:1])
    np.save(place / "fractions", np.full((1, 1), 0.7))
    np.save(place / "narrow", np.ones((1, 1), np.int32))
    np.save(place / "swapped", np.ones((1, 3, 6, 6), ">f4"))
    np.save(place / "double", np.ones((1, 3, 6, 6)))
    np.save(place / "long", np.ones((1, 9), np.float32))
    np.save(place / "objects", np.array([{}], object), allow_pickle=True)
    np.savez(place / "all.npz", **FEEDS)
    (place / "cut.npy").write_bytes((place / "image.npy").read_bytes()[:200])
    (place / "text.npy").write_text("1 2 3")
    (place / "notes.txt").write_text("no image")
    Image.effect_noise((40, 40), 90).save(place / "photo.png")
    (place / "cut.png").write_bytes((place / "photo.png").read_bytes()[:300])
    return place


def told(module: Load, folder: Path, script: str, *words: Any) -> tuple[int, str]:
    """The exit code of a script, and what it says if it says it by SystemExit."""
    made = module(folder, script)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sys, "argv", [script, *map(str, words)])
            return made.main(), ""
    except SystemExit as e:
        return (1, e.code) if isinstance(e.code, str) else (e.code, "")


MISTAKES: dict[str, tuple[list[str], str]] = {
    "fractions to whole numbers": (
        ["image=image.npy", "steps=steps.npy", "kind=fractions.npy"],
        "fractions.npy holds float64 [1, 1]; input kind takes int64 [n, 1]; to convert it: "
        "numpy.save(file, x.astype('int64'))",
    ),
    "other whole numbers": (
        ["image.npy", "steps.npy", "narrow.npy"],
        "narrow.npy holds int32 [1, 1]; input kind takes int64",
    ),
    "double": (["double.npy", "steps.npy", "kind.npy"], "double.npy holds float64 [1, 3, 6, 6]; input image takes flo"),
    "twice": (["image=image.npy", "image=photo.png"], "image is given twice: image.npy and photo.png"),
    "no such input": (["imgae=photo.png"], "there is no input imgae; inputs: image, steps, kind"),
    "order": (["image.npy", "kind.npy", "steps.npy"], "kind.npy holds int64 [1, 1]; input steps takes float32 [n, st"),
    "shape": (
        ["steps.npy", "image.npy", "kind.npy"],
        "steps.npy holds float32 [1, 5]; input image takes float32 [n, 3",
    ),
    "too many": (["a", "b", "c", "d"], "the network has 3 inputs: image, steps, kind; 4 files are given"),
    "no image": (["notes.txt", "steps.npy", "kind.npy"], "notes.txt cannot be read: it is no image that Pillow knows"),
    "cut image": (["cut.png", "steps.npy", "kind.npy"], "cut.png cannot be read: "),
    "image for numbers": (
        ["image.npy", "photo.png", "kind.npy"],
        "photo.png: input 'steps' (float32 (n, steps)) takes",
    ),
    "archive": (["all.npz", "steps.npy", "kind.npy"], "all.npz holds several arrays; hand one .npy file for each"),
    "objects": (["objects.npy", "steps.npy", "kind.npy"], "objects.npy holds Python objects; save numbers"),
    "cut": (["cut.npy", "steps.npy", "kind.npy"], "cut.npy cannot be read: "),
    "text": (["text.npy", "steps.npy", "kind.npy"], "text.npy is no .npy file"),
    "too long": (
        ["image.npy", "long.npy", "kind.npy"],
        "cannot compute with image [1, 3, 6, 6], steps [1, 9], kind [1, 1]: ",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_files_that_do_not_fit(
    written: Path, files: Path, module: Load, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, says = MISTAKES[name]
    monkeypatch.chdir(files)
    code, text = told(module, written, "run", *words)
    assert code == 1 and says in text and text.count("takes no images") <= 1


def test_names_and_places_may_be_mixed(
    written: Path, files: Path, module: Load, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    assert told(module, written, "run", "steps=steps.npy", "swapped.npy", "kind.npy", "--save", files / "o") == (0, "")
    assert "scores: float32[1, 3]" in capsys.readouterr().out
    found = np.load(files / "o" / "scores.npy")  # other byte order, the same numbers
    np.testing.assert_allclose(found, np.load(written / "expected/0/scores.npy"), atol=1e-5)


def test_a_place_that_cannot_be_written_is_told_before_the_work(written: Path, tmp_path: Path, module: Load) -> None:
    (tmp_path / "file").write_text("")
    code, text = told(module, written, "run", "--save", tmp_path / "file")
    assert code == 1 and f"cannot write to {tmp_path / 'file'}: " in text


@pytest.mark.parametrize("word", ["-1", "abc", "1.5"])
def test_counts_are_whole(written: Path, module: Load, word: str, capsys: Any) -> None:
    assert told(module, written, "run", f"--threads={word}")[0] == 2
    assert f"{word!r} is no whole number of at least 0" in capsys.readouterr().err


# -- a folder that is not as it was written ---------------------------------------------------------------------------


def edited(folder: Path, **words: Any) -> None:
    about = json.loads((folder / "network.json").read_text("utf-8"))
    (folder / "network.json").write_text(json.dumps(about | words), "utf-8")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


BREAKS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no network": (lambda f: (f / "model.onnx").unlink(), "model.onnx is missing"),
    "cut network": (lambda f: cut(f / "model.onnx"), "model.onnx cannot be loaded: "),
    "no answers": (lambda f: shutil.rmtree(f / "expected"), "expected/0/scores.npy is missing"),
    "no inputs": (lambda f: shutil.rmtree(f / "inputs" / "2"), "inputs/2/image.npy is missing"),
    "cut array": (lambda f: cut(f / "inputs/1/steps.npy"), "inputs/1/steps.npy is damaged: it cannot be read: "),
    "no array": (lambda f: (f / "expected/1/scores.npy").write_text("?"), "scores.npy is damaged: it is no .npy file"),
    "cut facts": (lambda f: cut(f / "network.json"), "network.json cannot be read: "),
    "other facts": (lambda f: (f / "network.json").write_text("[1]"), "network.json does not say what it should"),
    "part of facts": (lambda f: edited(f, outputs=[{"name": 3}]), "network.json does not say what it should"),
    "no samples": (lambda f: edited(f, samples=0), "network.json says that there are no samples"),
    "no facts": (lambda f: (f / "network.json").unlink(), "network.json is missing"),
    "no README": (lambda f: (f / "README.md").unlink(), "README.md is missing"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_folder(folder: Path, module: Load, name: str, capsys: Any) -> None:
    do, says = BREAKS[name]
    do(folder)
    assert told(module, folder, "verify") == (2, "")
    said = capsys.readouterr()
    assert said.err.startswith("the folder is incomplete: ") and says in said.err
    assert "CHANGED" in said.out or "MISSING" in said.out


def test_run_tells_of_a_broken_folder_too(folder: Path, module: Load, capsys: Any) -> None:
    (folder / "model.onnx").unlink()
    assert told(module, folder, "run") == (2, "")
    assert capsys.readouterr().err == "the folder is incomplete: model.onnx is missing\n"


def test_verify_finds_another_network_that_answers_alike(folder: Path, module: Load, capsys: Any) -> None:
    assert told(module, folder, "verify") == (0, "")
    assert "3 samples: all as expected\n" in capsys.readouterr().out
    network().save(folder / "model.onnx")  # the float one: near enough for the tolerance
    assert told(module, folder, "verify") == (1, "")
    out = capsys.readouterr().out
    assert out.startswith("CHANGED model.onnx\n") and "outputs as expected; 1 file is not what was written\n" in out


def test_verify_goes_on_without_sums(folder: Path, module: Load, capsys: Any) -> None:
    (folder / "SHA256SUMS").unlink()
    assert told(module, folder, "verify") == (0, "")
    assert "SHA256SUMS is missing or damaged: nobody can tell" in capsys.readouterr().err


def test_another_network_with_other_names(folder: Path, module: Load, capsys: Any) -> None:
    model = onnx.load(folder / "model.onnx")
    model.graph.output[0].name = model.graph.node[-1].output[0] = "other"
    onnx.save(model, folder / "model.onnx")
    assert told(module, folder, "verify") == (2, "")
    assert "model.onnx has no output scores" in capsys.readouterr().err
