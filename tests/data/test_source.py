"""What kind of data it is: paths, module:function, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fewbit.config import DataConfig
from fewbit.data import open_data
from fewbit.errors import ConfigError, DataError, EmptyData, UnknownName, UsageError
from tests.data.helpers import PAIR, VECTOR, fed, rows, tensor

X = rows(4, 3)

MODULE = """
import numpy as np
X = np.arange(12, dtype=np.float32).reshape(4, 3)
calls = []

def generator():
    calls.append(1)
    yield X[:2]
    yield X[2:]

def array(): return X
def mapping(): return {"x": X}
def batches(): return [X[:2], X[2:]]
def number(): return 7
def text(): return "photos"
def nothing(): return []
def failing(): raise RuntimeError("no disk")
def breaking():
    yield X
    raise OSError("disk gone")
constant = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module in the current directory, forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    (tmp_path / "calib_sets.py").write_text(MODULE)
    (tmp_path / "broken_sets.py").write_text("1 / 0")
    (tmp_path / "needy_sets.py").write_text("import surely_not_installed")
    before = set(sys.modules)
    yield "calib_sets"
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["generator", "array", "mapping", "batches"])
def test_function(name, module):
    source = open_data(f"{module}:{name}", VECTOR)
    for _ in range(2):
        np.testing.assert_array_equal(fed(source), X)


def test_a_function_itself():
    made = []

    def generator():
        made.append(1)
        yield from (X[:2], X[2:])

    for function in (generator, lambda: X, lambda: {"x": X}):
        source = open_data(function, VECTOR)
        for _ in range(2):
            np.testing.assert_array_equal(fed(source), X)
    assert len(made) == 2  # one a pass


def test_a_class_is_called_too():
    class Items:
        def __getitem__(self, i):
            return [X[:2], X[2:]][i]

        def __len__(self):
            return 2

    for data in (Items, Items()):
        np.testing.assert_array_equal(fed(open_data(data, VECTOR)), X)


def test_a_function_that_fails():
    def failing():
        raise RuntimeError("no disk")

    with pytest.raises(DataError, match=r"the function .*failing raised RuntimeError: no disk"):
        open_data(failing, VECTOR)
    with pytest.raises(DataError, match=r"the function .*<lambda> raised TypeError: .*missing 1 required"):
        open_data(lambda path: X, VECTOR)
    with pytest.raises(DataError, match=r"what the function .* returned, 7, cannot be used as data"):
        open_data(lambda: 7, VECTOR)


def test_function_is_called_once_a_pass(module):
    source = open_data(f"{module}:generator", VECTOR)
    list(source), list(source)
    assert len(sys.modules[module].calls) == 2


FUNCTIONS = [
    ("nowhere:f", UsageError, "nowhere:f: there is no module 'nowhere', neither in .* nor installed"),
    ("calib_sets.sub:f", UsageError, "there is no module 'calib_sets.sub'"),
    (
        "calib_sets:genrator",
        UnknownName,
        r"unknown function in module 'calib_sets' 'genrator'; did you mean 'generator'\?",
    ),
    ("calib_sets:constant", UsageError, "calib_sets:constant is a int, not a function"),
    ("calib_sets:failing", DataError, "calib_sets:failing raised RuntimeError: no disk"),
    ("calib_sets:breaking", DataError, "calib_sets:breaking raised OSError: disk gone"),
    ("calib_sets:number", DataError, "what calib_sets:number returned, 7, cannot be used as data; it may be a folder"),
    ("calib_sets:text", DataError, "what calib_sets:text returned, 'photos', is text"),
    ("calib_sets:nothing", EmptyData, "calib_sets:nothing holds no item"),
    ("broken_sets:f", DataError, "importing 'broken_sets' raised ZeroDivisionError: division by zero"),
    ("needy_sets:f", DataError, "importing 'needy_sets' raised ModuleNotFoundError: .*surely_not_installed"),
]


@pytest.mark.parametrize(("text", "kind", "message"), FUNCTIONS)
def test_functions_that_do_not_serve(text, kind, message, module):
    with pytest.raises(kind, match=message):
        list(open_data(text, VECTOR))


def test_a_mistyped_input_is_no_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bins").mkdir()
    inputs = [tensor("image", "N", 3)]
    with pytest.raises(UnknownName, match=r"unknown input name 'imag'; did you mean 'image'\?.*It is in 'imag:bins'"):
        open_data("imag:bins", inputs)
    with pytest.raises(
        UsageError, match=r"no module 'imag', neither in .* installed; nor is 'imag' an input: there is 'image'"
    ):
        open_data("imag:none", inputs)
    (tmp_path / "bins.py").write_text("def bins():\n    return [[0.0, 1.0, 2.0]]\n")
    assert len(list(open_data("bins:bins", inputs))) == 1  # a function, though there is a folder of its name


@pytest.mark.parametrize("text", ["nowhere", "no/where", "nowhere.npz", "./photos:old"])
def test_missing_path(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match=r"there is no such file or folder; data may be a folder of images or \.bin"
    ) as e:
        open_data(text, VECTOR)
    assert str(e.value).startswith(f"{text}: ")


def test_missing_path_object(tmp_path):
    with pytest.raises(DataError, match=r"gone.npy: there is no such file or folder"):
        open_data(tmp_path / "gone.npy", VECTOR)


@pytest.mark.parametrize("name", ["a.tar", "a.csv", "photo.png", "data"])
def test_unknown_kind_of_file(name, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"is a file of an unknown kind '.*'; data may be a folder of images .*an \.npy, \.npz or"
    ):
        open_data(str(tmp_path / name), VECTOR)


@pytest.mark.parametrize("data", [7, None, 3.5, b"x", object()])
def test_unknown_kind_of_value(data):
    with pytest.raises(DataError, match=r"the \w+ (cannot be used as data|is text).* may be a folder of images"):
        open_data(data, VECTOR)


def test_a_path_wins_over_a_function(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.npy").rename(tmp_path / "mod:func")
    with pytest.raises(DataError, match="mod:func is a file of an unknown kind"):
        open_data("mod:func", VECTOR)


def test_an_input_wins_over_a_module(module):
    with pytest.raises(DataError, match="generator: there is no such file or folder"):
        open_data("a:generator,b:generator", PAIR)


def test_image_settings_are_refused_for_iterables(module):
    with pytest.raises(ConfigError, match="image_to_format is for images, and the list is fed as it is"):
        open_data([X], VECTOR, DataConfig(image_to_format="BGR"))
    with pytest.raises(ConfigError, match="image_to_format is for images, and calib_sets:generator is fed as it is"):
        open_data(f"{module}:generator", VECTOR, DataConfig(image_to_format="BGR"))
