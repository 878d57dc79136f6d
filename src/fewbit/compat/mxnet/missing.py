"""What MXNet has and `fewbit.compat.mxnet` has not: a message instead of a bare AttributeError."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from fewbit.errors import FewbitError


class NotThere(FewbitError, AttributeError):
    """A name of MXNet's that is not taken over."""


def telling(module: str, instead: str = "") -> Callable[[str], NoReturn]:
    """A module's `__getattr__`.

    Args:
        module: as scripts call it, such as `mx.nd`. instead: what to use.
    """

    def getattr_(name: str) -> NoReturn:
        hint = f"; {instead}" if instead else ""
        raise NotThere(f"{module}.{name} is not part of fewbit.compat.mxnet, which quantizes and runs{hint}")

    return getattr_
