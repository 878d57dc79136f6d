"""Name scopes."""

from __future__ import annotations

import pytest

from fewbit.report.drawing.scopes import scopes, title


def cut(*names: str) -> dict[str, tuple[str, ...]]:
    """The scopes of these, beside layers of their own at the top."""
    found = scopes([*names, "first", "last"])
    return {n: found[n] for n in names}


def test_slashes_and_dots_are_the_same() -> None:
    for sign in "/.":
        names = [f"net{sign}{i}{sign}{k}" for i in range(2) for k in ("a", "b", "c")]
        assert cut(*names)[names[0]] == ("net", "net/0")


def test_a_scope_that_is_said_twice_is_cut_once() -> None:
    names = [f"/layer1/layer1.{i}/conv{k}/Conv" for i in range(2) for k in range(3)]
    assert cut(*names)[names[0]] == ("layer1", "layer1/0")


def test_what_tells_nothing_is_left_out() -> None:
    names = [f"net/inner/{k}" for k in "abc"]
    assert cut(*names)["net/inner/a"] == ("net/inner",)  # nothing else is in net
    assert scopes(names)["net/inner/a"] == ()  # everything is in there
    assert cut("a/x", "a/y")["a/x"] == ()  # two are few


def test_underscores_cut_behind_numbers_if_nothing_else_does() -> None:
    names = [f"net0_stage{i}_conv{k}_fwd" for i in range(2) for k in range(3)]
    assert cut(*names)["net0_stage1_conv0_fwd"] == ("net0", "net0/stage1")
    assert scopes(["Conv_1", "Conv_2", "Conv_3", "Relu_1"])["Conv_1"] == ()


@pytest.mark.parametrize("name", ["", "/", "//", "...", "a//b", "/.hidden", "a;b/c", "é/ü/ö"])
def test_odd_names_do_no_harm(name: str) -> None:
    assert set(scopes([name, "b", "c", "d"])) == {name, "b", "c", "d"}


def test_numbers_are_called_with_what_they_count() -> None:
    assert title("net/layer/3") == "layer.3" and title("net/layer") == "layer" and title("3") == "3"


def test_depth_has_an_end() -> None:
    names = ["/".join(f"s{i}" for i in range(depth)) for depth in range(1, 3000, 7)]
    assert max(map(len, scopes(names).values())) <= 12
