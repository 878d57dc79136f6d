"""Libraries that come along: each is what the table says, with its licence beside it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import fewbit
from tests.structure.source import ROOT, project

VENDOR = Path(fewbit.__file__).parent / "report" / "vendor"
ROW = re.compile(r"^\| `([^`]+)` \|.*?\| ([\d.]+) \| ([^|]+) \| `([^`]+)`, `([^`]+)` \| `([0-9a-f]{64})` \|$", re.M)
TABLE = {row[0]: row[1:] for row in ROW.findall((VENDOR / "README.md").read_text("utf-8"))}
"""File → version, licence, package, path, sha256."""


def licence(name: str) -> Path:
    return VENDOR / f"{name.removesuffix('.js').removesuffix('.min')}.LICENSE"


def test_the_table_has_every_file() -> None:
    found = {p.name for p in VENDOR.iterdir()}
    texts = {name for name in found if name.endswith(".LICENSE")}
    assert texts == {licence(name).name for name in TABLE}
    assert found - texts - {"README.md"} == set(TABLE)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_file_is_the_one_in_the_table(name: str) -> None:
    version, _, _, _, digest = TABLE[name]
    content = (VENDOR / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest
    assert version.encode() in content[:2000], "the file names another version"


@pytest.mark.parametrize("name", sorted(TABLE))
def test_its_licence_lies_beside_it_and_is_declared(name: str) -> None:
    kinds, text = TABLE[name][1].split(" AND "), licence(name).read_text("utf-8")
    words = {
        "ISC": "Permission to use, copy, modify, and/or distribute this software for any purpose",
        "MIT": "Permission is hereby granted, free of charge",
        "EPL-1.0": "Eclipse Public License - v 1.0",
    }
    assert "Copyright" in text and all(words[kind] in text for kind in kinds)
    assert set(kinds) <= set(project()["license"].split(" AND "))
    assert any(licence(name).match(pattern) for pattern in project()["license-files"])


def test_libraries_can_stand_in_a_page() -> None:
    for name in TABLE:
        text = (VENDOR / name).read_text("utf-8")
        assert not re.search(r"</script|<!--|\r", text) and not text.startswith("\ufeff")


def test_licences_are_those_that_exist() -> None:
    for pattern in project()["license-files"]:
        assert list(ROOT.glob(pattern)), pattern
