import ast
import re
from pathlib import Path

import pytest

from fewbit import errors
from fewbit.errors import EngineMissing, FewbitError, UnknownName, UsageError, one_of, unknown

ALL = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]


def test_the_tree_in_the_docstring_is_the_tree():
    level: list[str] = []
    drawn = {}
    for line in errors.__doc__.splitlines():
        found = re.match(r"^([│ ]*)(?:[├└]── )?(\w+)(?:\s{2,}|$)", line)
        if not found or found[2] not in vars(errors):
            continue
        depth = 0 if "──" not in line else len(found[1]) // 4 + 1
        level[depth:] = [found[2]]
        drawn[found[2]] = level[depth - 1] if depth else None
    real = {e.__name__: next((b.__name__ for b in e.__bases__ if b in ALL), None) for e in ALL}
    assert drawn == real


def test_every_class_knows_what_to_do():
    for error in ALL:
        if issubclass(error, FewbitError):
            assert len(error.remedy) > 10, error
    assert {e.remedy for e in ALL if issubclass(e, UsageError)} == {FewbitError.remedy}  # the command line has better


@pytest.mark.parametrize(
    "text",
    [
        "a is 0; it must be 1 or more", "unknown engine 'x'; did you mean 'y'?", "the output must end in .onnx",
        "torch is not installed; it comes with: pip install 'fewbit[torch]'", "no image is here. Put some there",
        "unknown kind 'x' (allowed: a, b)",
    ],
)  # fmt: skip
def test_a_message_that_says_what_to_do_is_known(text):
    assert FewbitError(text).says_what_to_do()


def test_one_that_only_says_what_is_wrong_is_known():
    assert not FewbitError("tensor 'a.B' is damaged: 3 bytes, 4 wanted").says_what_to_do()


def _said(node):
    """The text of a message as it is written, `{}` for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "{}"


@pytest.mark.parametrize("folder", ["api", "cli"])
def test_what_users_are_told_first_says_what_to_do(folder):
    silent = []
    for file in sorted((Path(errors.__file__).parent / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CHOSEN):
                continue
            text = _said(node.args[0]) if node.args else "{}"
            if text != "{}" and not FewbitError(text).says_what_to_do():
                silent.append(f"{file.name}:{node.lineno}: {text}")
    assert silent == []


CHOSEN = {"UsageError", "ConfigError", "DataError", "EmptyData", "OutputError"}


def test_user_mistakes_exit_with_2_and_failures_with_1():
    for error in ALL:
        if issubclass(error, FewbitError):
            assert error.exit_code == (2 if issubclass(error, UsageError) else 1), error


def test_ours_are_caught_as_what_python_programmers_expect():
    assert issubclass(UsageError, ValueError) and issubclass(UnknownName, KeyError)


def test_an_unknown_name_is_shown_without_quotes_around_the_sentence():
    assert str(UnknownName("no such thing")) == "no such thing"
    assert str(UnknownName()) == ""


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (unknown("layer", "con1", ["conv1", "fc"]), "unknown layer 'con1'; did you mean 'conv1'? (allowed: conv1, fc)"),
        (unknown("layer", "zzz", ["conv1", "fc"]), "unknown layer 'zzz' (allowed: conv1, fc)"),
        (unknown("layer", "zzz", []), "unknown layer 'zzz' (there are none)"),
        (
            unknown("key", "abd", [*map(str, range(40)), "abc"], hint="Look"),
            "unknown key 'abd'; did you mean 'abc'? Look",
        ),
        (unknown("key", 3, ["a"], hint="Look there"), "unknown key '3' (allowed: a). Look there"),
        (unknown("x", "ab1", ["ab2", "ab3"]), "unknown x 'ab1'; did you mean 'ab3' or 'ab2'? (allowed: ab2, ab3)"),
        (
            EngineMissing("OpenVINO", "openvino"),
            "OpenVINO is not installed; it comes with: pip install 'fewbit[openvino]'",
        ),
    ],
)
def test_messages(error, text):
    assert str(error) == text


def test_long_lists_are_cut_to_the_nearest():
    text = str(unknown("layer", "conv7x", [f"conv{i}" for i in range(200)]))
    assert "did you mean 'conv7'" in text and "allowed" not in text and len(text) < 100


def test_a_word_among_the_choices_is_given_back():
    assert one_of("mode", "naive", ("naive", "mse")) == "naive"
    assert one_of("mode", "mse", (m for m in ("naive", "mse"))) == "mse"
    with pytest.raises(UnknownName, match="unknown mode 'naiv'; did you mean 'naive'"):
        one_of("mode", "naiv", ("naive", "mse"))
    with pytest.raises(UnknownName, match=r"unknown mode .*\['naive'\]"):
        one_of("mode", ["naive"], ("naive", "mse"))
