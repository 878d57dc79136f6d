"""Config files of MindSpore Lite's converter, read as they are."""

from fewbit.mindspore.settings import (
    MindSporeSettings,
    asked,
    data_named,
    is_mindspore,
    read_settings,
    read_tables,
    to_settings,
)

__all__ = [
    "MindSporeSettings",
    "asked",
    "data_named",
    "is_mindspore",
    "read_settings",
    "read_tables",
    "to_settings",
]
