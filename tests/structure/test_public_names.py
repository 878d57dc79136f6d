"""The names that `import fewbit` gives are a contract: pinned here, documented, checked by reading them."""

from __future__ import annotations

import inspect
import re

import pytest

import fewbit
from tests.structure.source import project

# Changing this list changes the contract: say so in CHANGELOG.md.
PUBLIC = """
    CalibrationCollector DataConfig FewbitError FewbitWarning Model Plan QuantConfig QuantSpec Quantized SimulateConfig
    TrainConfig apply attach benchmark calibrate compare correct deploy evaluate explain fuse inspect load make_plan
    make_report plot profile quantize sensitivity simulate sizes sweep train verify
""".split()


def test_the_public_names_are_these() -> None:
    assert sorted(fewbit.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there_and_explains_itself(name: str) -> None:
    thing = getattr(fewbit, name)
    assert inspect.isclass(thing) or inspect.isfunction(thing)
    text = thing.__doc__ or ""
    assert text.strip(), f"{name} has no docstring"
    assert not text.startswith(f"{name}("), f"{name} has only the docstring that dataclass makes"


def test_dir_lists_the_public_names() -> None:
    assert set(PUBLIC) <= set(dir(fewbit))


def test_an_unknown_name_is_an_attribute_error_that_says_which() -> None:
    with pytest.raises(AttributeError, match="quantise"):
        fewbit.quantise  # noqa: B018


def test_the_version_is_a_release_number() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", fewbit.__version__)


def test_the_command_is_the_cli() -> None:
    assert project()["scripts"] == {"fewbit": "fewbit.cli:main"}
