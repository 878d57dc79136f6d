"""The page of a report as text: whatever is missing or odd, it stands, says all of it, and holds nothing but itself."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

import fewbit as fb
from fewbit.data.demo import DEMO_MODEL, demo_calibration, demo_test
from fewbit.report.full.report import FullReport
from fewbit.report.page.html import json_in_page, page
from tests.report.page.facts import bare, resnet50, troubled, whole
from tests.report.page.reading import Read, rounded, with_numbers, with_texts

Json = dict[str, Any]
MEGABYTE = 1_000_000

ODD = {
    "script": "<script>alert(1)</script>",
    "end of script": "</script><img src=x onerror=alert(1)>",
    "comment": "<!--<script>",
    "end of style": "</style></title></textarea>{{ 7*7 }}{% raw %}",
    "quotes": "\" onclick='alert(1)' `x` \\",
    "entities": "&lt;b&gt; &amp;amp; &#39;",
    "long": "layer/" * 50,
    "unicode": "слой/層 🙂 ‮ i\u0307\u2028\u2029",
    "address": "javascript:alert(1)",
}


@pytest.fixture(scope="module")
def made() -> FullReport:
    model = fb.load(DEMO_MODEL)
    quantized = fb.quantize(model, demo_calibration(), verify=False, effort="fast", batch_size=32)
    return fb.make_report(model, quantized, {k: v[:8] for k, v in demo_test().items()}, batch_size=8)


@pytest.fixture(scope="module")
def large() -> Json:
    return resnet50()


def test_a_real_report(made: FullReport) -> None:
    read = Read(made.html())
    assert read.data == rounded(made.to_json())
    for layer in made.layers:
        assert layer.node in read.text
    for said in (*made.setting.versions, made.setting.engine, "Error by layer", "Latency profile", "Sensitivity"):
        assert said in read.text
    assert read.tags.count("tr") > 2 * len(made.layers)  # error and time of each layer


# -- nothing but itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [whole, bare])
def test_it_asks_for_nothing_and_runs_only_its_own_scripts(make: Any) -> None:
    read = Read(page(make()))
    assert all(a.startswith("#") for a in read.addresses()) and read.handlers() == []
    assert not {"link", "iframe", "img", "object", "embed", "base"} & set(read.tags)
    rules = dict(rule.split(" ", 1) for rule in read.policy.split("; "))
    assert rules["script-src"].split() == read.hashes() and len(read.hashes()) == 4
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert not re.search(r"https?:|@import|url\(", " ".join(rules.values()))


def test_addresses_are_names_of_xml_or_the_home_of_a_library() -> None:
    html = page(troubled())
    found = {m[0] for m in re.finditer(r"\b(?:https?|wss?)://[^\s\"'`)]*", html)}
    assert {a for a in found if not a.startswith("http://www.w3.org/")} == {"https://d3js.org"}
    assert "// https://d3js.org v7" in html  # a comment: whose work it is
    assert not re.search(r"@import|url\(\s*[\"']?(?!#)", html.split("</style>")[0])


def test_it_stays_small(large: Json) -> None:
    channels = [len(x["weights"]["sqnr"]) for x in large["layers"] if x["weights"]]
    assert len(large["layers"]) > 120 and max(channels) == 2048
    assert len(page(large).encode()) < 5 * MEGABYTE


def test_the_same_facts_give_the_same_bytes(large: Json) -> None:
    assert page(large) == page(copy.deepcopy(large))


def test_facts_are_left_as_they_are() -> None:
    facts = whole()
    page(facts)
    assert facts == whole()


@pytest.mark.parametrize("make", [whole, bare])
def test_the_data_in_it_are_the_facts(make: Any) -> None:
    facts = make()
    assert Read(page(facts)).data == rounded(facts)


# -- odd names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
def test_a_text_stays_a_text_wherever_it_stands(name: str) -> None:
    facts = with_texts(whole(), lambda x: name)
    read, calm = Read(page(facts)), Read(page(with_texts(whole(), lambda x: "calm")))
    assert read.tags == calm.tags and read.hashes() == calm.hashes()
    assert [k for k, _ in read.attributes if k != "title"] == [k for k, _ in calm.attributes if k != "title"]
    assert all(a.startswith("#") for a in read.addresses()) and read.handlers() == []
    assert " ".join(name.split()) in read.text and read.data == rounded(facts)
    assert "<" not in read.raw and "\u2028" not in read.raw


def test_names_of_packages_and_operators_are_texts_too() -> None:
    name, facts = "</td></table><img src=x onerror=alert(2)>", whole()
    facts["summary"]["versions"] = {name: "1"}
    facts["profile"]["float_operators"] = {name: [1, 2.0]}
    read = Read(page(facts))
    assert "img" not in read.tags and read.handlers() == [] and read.text.count(name) == 2


def test_a_layer_without_a_name_can_be_seen() -> None:
    read = Read(page(with_texts(troubled(), lambda x: "")))
    assert "(no name)" in read.text and "untitled" in read.text


def test_long_names_are_cut_and_told_in_full() -> None:
    read = Read(page(troubled()))
    assert ("title", "x" * 300) in read.attributes and "x" * 100 not in read.text and "x…x" in read.text


def test_json_cannot_end_its_element() -> None:
    said = {"a<b>": ["</script>", "<!--", "\u2028", 'ä"\\']}
    text = json_in_page(said)
    assert json.loads(text) == said and not set("<\u2028\u2029") & set(text)
    with pytest.raises(ValueError, match="Out of range float"):
        json_in_page(float("nan"))


# -- missing and odd values -------------------------------------------------------------------------------------------


def test_nothing_was_measured() -> None:
    read = Read(page(bare()))
    assert read.text.count("Not measured") == 5 and "No output was compared" in read.text
    assert "No problem found in what was measured" in read.text and "None" not in read.text
    assert "No inner layer was compared" in Read(page({})).text


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", 0.0, -1.5, 1e300, 5e-324])
def test_any_number_may_be_odd(value: Any) -> None:
    odd = with_numbers(whole(), value)
    read = Read(page(odd))
    assert read.data == rounded(odd) and read.tags.count("tr") > 20


# -- what is loud -----------------------------------------------------------------------------------------------------


def test_problems_are_loud_and_come_with_advice() -> None:
    facts = troubled()
    html = page(facts)
    read = Read(html)
    assert "2 problems found" in read.text and "What to try" in read.text and "No problem found" not in read.text
    s = facts["summary"]
    places = [read.text.index(t) for t in (facts["title"], *s["problems"], *s["advice"], "How this was measured")]
    assert places[1:] == sorted(places[1:])
    assert html.index('class="verdict bad"') < html.index('class="tiles"') < html.index("<table")


def test_a_calm_verdict_says_what_it_does_not_know() -> None:
    facts = resnet50() | {"layers": []}
    text = Read(page(facts)).text
    assert "No problem found " in text and "in what was measured" not in text
    assert "3.97× smaller, 2.40× faster, top-1 −0.23 points" in text
    facts["summary"] |= {"latency": None, "accuracy": None}
    text = Read(page(facts)).text
    assert "in what was measured" in text and "Not measured: latency, accuracy on labels." in text
