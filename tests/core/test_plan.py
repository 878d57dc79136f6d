import json
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.core.params import params_from_range
from fewbit.core.plan import NodePlan, Plan, Rescale, ValuePlan, dumps
from fewbit.core.spec import QuantSpec
from fewbit.errors import ConfigError, NotCalibrated, OutputError, PlanError, UnknownName

U8 = QuantSpec(8, signed=False)
W8 = QuantSpec(8, signed=True, symmetric=True, narrow=True, granularity="channel", axis=0)

PLAN = Plan(
    values={
        "x": ValuePlan(U8, "act", "x", "read by conv", -1.5, 2.25, "naive"),
        "y": ValuePlan(U8, "act", "y", "made by conv", 0.0, 0.1, "entropy"),
        "z": ValuePlan(U8, "act", "y", "made by pool", 0.0, 0.1, "entropy", observe=False),
        "w": ValuePlan(W8, "weight", "w", "weight of conv", observe=False),
        "w@fc": ValuePlan(
            QuantSpec(4, True, granularity="group", axis=0, group_size=32), "weight", "w@fc", observe=False
        ),
    },
    nodes={
        "conv": NodePlan(True, "core operator", ("act", "weight", "bias"), ("act",)),
        "relu": NodePlan(True, "merged into conv", absorbed_by="conv"),
        "softmax": NodePlan(False, "no integer Softmax on onnxruntime"),
    },
    target="openvino",
    config={"bit_num": 4, "exclude_layers": ["a"], "overrides": {"l*": {"bit_num": 16}}},
    model="0123",
)

CORRECTED = replace(
    PLAN,
    values={**PLAN.values, "w": replace(PLAN.values["w"], scale=(0.1, 2e-30), nudge="eJxjZGRgAAAAFAAE")},
    nodes={**PLAN.nodes, "conv": replace(PLAN.nodes["conv"], bias=(0.1, -3.0))},
    rescales=(
        Rescale("x", (0.5, 2.0), unclip=("relu6",), absorb=(0.0, 1.5), why="high-bias absorption"),
        Rescale("y", (1 / 3,)),
    ),
)

finite = st.floats(allow_nan=False, allow_infinity=False)


def changed(plan: Plan = PLAN, **at) -> dict:
    """A plan as JSON with changes: `values__x__range=[2, 1]` sets that entry, `...` removes it."""
    found = json.loads(dumps(plan.to_json()))
    for path, value in at.items():
        *way, last = path.split("__")
        here = found
        for step in way:
            here = here[int(step) if isinstance(here, list) else step]
        if value is ...:
            del here[last]
        elif isinstance(here, list):
            here[int(last)] = value
        else:
            here[last] = value
    return found


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_plan_comes_back_as_it_was(tmp_path):
    PLAN.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == PLAN
    assert os.listdir(tmp_path) == ["plan.json"]


@given(finite, finite, st.text(min_size=1), st.text())
def test_ranges_and_names_come_back_bit_for_bit(a, b, name, reason):
    lo, hi = sorted((a, b))
    plan = Plan({name: ValuePlan(U8, "act", name, reason, lo, hi)}, {name: NodePlan(False, reason)})
    back = Plan.from_json(json.loads(dumps(plan.to_json())))
    assert back == plan
    assert (repr(back.values[name].lo), repr(back.values[name].hi)) == (repr(lo), repr(hi))


@given(
    st.builds(
        QuantSpec,
        bits=st.integers(1, 16),
        signed=st.sampled_from([None, True, False]),
        symmetric=st.booleans(),
        dynamic=st.booleans(),
    )
)
def test_every_format_comes_back(spec):
    plan = Plan({"x": ValuePlan(spec, "act", "x")}, {})
    assert Plan.from_json(json.loads(dumps(plan.to_json()))) == plan


def test_the_file_is_made_to_be_read():
    lines = dumps(PLAN.to_json()).splitlines()
    assert len(lines) == 2 + 5 + 2 * 2 + len(PLAN.values) + len(PLAN.nodes)
    x = '    "x": {"role": "act", "spec": {"signed": false, "bits": 8}, "range": [-1.5, 2.25], "calib_mode": "naive", '
    assert x + '"reason": "read by conv"},' in lines
    assert dumps(Plan({}, {}).to_json()).endswith('"values": {},\n  "nodes": {}\n}\n')


def test_a_group_has_one_range_to_edit():
    found = changed(values__y__range=[0.0, 7.5])
    assert "range" not in found["values"]["z"]
    plan = Plan.from_json(found)
    assert (plan.values["z"].lo, plan.values["z"].hi) == (0.0, 7.5)
    assert plan.params("z") == plan.params("y")


def test_left_out_entries_have_defaults():
    found = {
        "fewbit_plan": 1,
        "values": {"x": {"role": "act", "spec": {"bits": 8}}},
        "nodes": {"n": {"quantized": False}},
    }
    assert Plan.from_json(found) == Plan({"x": ValuePlan(QuantSpec(), "act", "x")}, {"n": NodePlan(False, "")})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fewbit_plan": 2}, r"plan version 2; this fewbit reads version 1"),
        ({"fewbit_plan": ...}, r"not a fewbit plan \(no key 'fewbit_plan'\)"),
        ({"values": ...}, r"plan lacks the key 'values'"),
        ({"nodes": []}, r"nodes is \[\]; it must be an object"),
        ({"values": 3}, r"values is 3; it must be an object"),
        ({"target": 3}, r"plan: target is 3; it must be a text"),
        ({"model": None}, r"plan: model is None; it must be a text"),
        ({"config": "x"}, r"config is 'x'; it must be an object"),
        ({"vlaues": {}}, r"unknown key of plan 'vlaues'; did you mean 'values'"),
        ({"values__x": []}, r"value 'x' is \[\]; it must be an object"),
        ({"values__x__rnage": []}, r"unknown key of value 'x' 'rnage'; did you mean 'range'"),
        ({"values__x__role": ...}, r"value 'x' lacks the key 'role'"),
        ({"values__x__role": "activation"}, r"value 'x': unknown role 'activation'.*allowed: act, weight"),
        ({"values__x__role": []}, r"value 'x': unknown role '\[\]'"),
        ({"values__x__spec": 8}, r"value 'x': spec is 8; it must be an object"),
        ({"values__x__spec__bits": 17}, r"value 'x': bits is 17; it must be a whole number from 1 to 16"),
        ({"values__x__spec__bits": "8"}, r"value 'x': bits is '8'"),
        ({"values__x__spec__sign": True}, r"value 'x': unknown format field 'sign'; did you mean 'signed'"),
        ({"values__x__spec__signed": "no"}, r"value 'x': signed is 'no'; it must be true or false"),
        ({"values__x__spec__symmetric": 1}, r"value 'x': symmetric is 1; it must be true or false"),
        ({"values__x__spec__axis": 1}, r"value 'x': granularity 'tensor' takes neither axis"),
        ({"values__w__spec__axis": "0"}, r"value 'w': axis is '0'; it must be a whole number"),
        ({"values__w__spec__axis": True}, r"value 'w': axis is True; it must be a whole number"),
        ({"values__w@fc__spec__group_size": 0}, r"value 'w@fc': group_size is 0"),
        ({"values__w@fc__spec__group_size": "32"}, r"value 'w@fc': group_size is '32'; it must be a whole number"),
        ({"values__x__spec__granularity": "row"}, r"value 'x': unknown granularity 'row'"),
        ({"values__x__range": [1.0]}, r"value 'x': range is \[1.0\]; it must be \[lowest, highest\]"),
        ({"values__x__range": "0 1"}, r"value 'x': range is '0 1'; it must be \[lowest, highest\]"),
        ({"values__x__range": [False, True]}, r"value 'x': range is \[False, True\]"),
        ({"values__x__range": [2.0, 1.0]}, r"value 'x': range is \[2.0, 1.0\]; .* the lower one first"),
        ({"values__x__range": [0, float("nan")]}, r"value 'x': range is .*two finite numbers"),
        ({"values__x__range": [0, 10**400]}, r"value 'x': range is .*two finite numbers"),
        ({"values__x__reason": 3}, r"value 'x': reason is 3; it must be a text"),
        ({"values__x__calib_mode": 3}, r"value 'x': calib_mode is 3; it must be a text"),
        ({"values__x__observe": "yes"}, r"value 'x': observe is 'yes'; it must be true or false"),
        ({"values__x__group": 3}, r"value 'x': group is 3; it must be a text"),
        ({"values__z__group": "yy"}, r"value 'z' belongs to group 'yy'; unknown value 'yy'; did you mean 'y'"),
        (
            {"values__z__range": [0, 1]},
            r"value 'z' has a range of its own but belongs to group 'y'; edit the range there",
        ),
        (
            {"values__x__group": "z", "values__x__range": ...},
            r"'x' belongs to group 'z', which itself belongs to group 'y'",
        ),
        ({"values__z__spec__bits": 4}, r"value 'z' has another format or role than its group 'y'"),
        (
            {"values__w__range": [-1, 1]},
            r"value 'w' has a range, but it is a weight: .*from the weight itself; remove it",
        ),
        (
            {"nodes__relu__absorbed_by": "cnov"},
            r"'relu' is absorbed by 'cnov'; unknown layer 'cnov'; did you mean 'conv'",
        ),
        ({"nodes__relu__absorbed_by": "relu"}, r"'relu' is absorbed by 'relu'; unknown layer"),
        ({"nodes__relu__absorbed_by": "softmax"}, r"'relu' is absorbed by 'softmax', which stays float"),
        ({"nodes__conv": 1}, r"node 'conv' is 1; it must be an object"),
        ({"nodes__conv__quantized": ...}, r"node 'conv' lacks the key 'quantized'"),
        ({"nodes__conv__quantized": "yes"}, r"node 'conv': quantized is 'yes'; it must be true or false"),
        ({"nodes__conv__roles": "act"}, r"node 'conv': roles is 'act'; it must be a list"),
        ({"nodes__conv__roles": ["act", "wieght"]}, r"node 'conv': unknown role 'wieght'; did you mean 'weight'"),
        ({"nodes__conv__outputs": [1]}, r"node 'conv': unknown output role '1'"),
        ({"nodes__conv__absorbed_by": None}, r"node 'conv': absorbed_by is None; it must be a text"),
        ({"nodes__conv__why": ""}, r"unknown key of node 'conv' 'why'"),
    ],
)
def test_damaged_entries_are_named(tmp_path, change, says):
    found = changed(**change)
    with pytest.raises(PlanError, match=says):
        Plan.from_json(found)
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(found))
    with pytest.raises(PlanError, match=rf"plan\.json: .*{says}"):
        Plan.load(file)


# -- corrections -----------------------------------------------------------------------------------------------------


def test_corrections_come_back_as_they_were(tmp_path):
    CORRECTED.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == CORRECTED != PLAN


positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)


@given(
    st.lists(positive, max_size=5), st.lists(finite, max_size=5), st.text(), st.lists(positive, min_size=1, max_size=5)
)
def test_numbers_of_corrections_come_back_bit_for_bit(scale, bias, nudge, factors):
    values = {"w": ValuePlan(W8, "weight", "w", scale=tuple(scale), nudge=nudge)}
    nodes = {"n": NodePlan(True, "", ("act",), ("act",), bias=tuple(bias))}
    plan = Plan(values, nodes, rescales=(Rescale("x", tuple(factors), absorb=tuple(bias), why=nudge),))
    back = Plan.from_json(json.loads(dumps(plan.to_json())))
    assert back == plan and repr(back) == repr(plan)


def test_a_plan_without_corrections_does_not_speak_of_them():
    text = dumps(PLAN.to_json())
    assert not any(f'"{word}"' in text for word in ("scale", "nudge", "rescales", "unclip", "absorb"))
    assert '"bias": ' not in text
    assert (
        '"rescales": [{"value": "x", "scale": [0.5, 2.0], "unclip": ["relu6"], "absorb": [0.0, 1.5], "why": '
        in dumps(CORRECTED.to_json())
    )


def test_whole_numbers_may_be_written_without_a_point():
    found = Plan.from_json(changed(CORRECTED, values__w__scale=[1, 2], nodes__conv__bias=[0, -1]))
    assert found.values["w"].scale == (1.0, 2.0) and type(found.values["w"].scale[0]) is float
    assert found.nodes["conv"].bias == (0.0, -1.0)


def test_new_ranges_keep_the_corrections_of_weights_and_a_float_layer_loses_its_bias():
    plan = CORRECTED.with_ranges({"x": (-9.0, 9.0)})
    assert plan.values["w"] == CORRECTED.values["w"] and plan.nodes == CORRECTED.nodes
    assert plan.rescales == CORRECTED.rescales
    assert CORRECTED.keep_float(["conv"], "it hurts").nodes["conv"].bias == ()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"values__x__scale": [1.0]}, r"value 'x' has a scale, which is for weights; edit its range"),
        ({"values__x__nudge": "eJw="}, r"value 'x' has a nudge, which is for weights; edit its range"),
        ({"values__w__scale": 1.0}, r"value 'w': scale is 1.0; it must be a list"),
        ({"values__w__scale": [1.0, 0.0]}, r"value 'w': scale holds 0.0; it must be finite numbers over 0"),
        ({"values__w__scale": [-1]}, r"value 'w': scale holds -1; it must be finite numbers over 0"),
        ({"values__w__scale": [True]}, r"value 'w': scale holds True; it must be finite numbers over 0"),
        ({"values__w__scale": ["1"]}, r"value 'w': scale holds '1'; it must be finite numbers over 0"),
        ({"values__w__scale": [float("nan")]}, r"value 'w': scale holds nan; it must be finite numbers over 0"),
        ({"values__w__scale": [10**400]}, r"value 'w': scale holds 10+; it must be finite numbers over 0"),
        ({"values__w__gain": [1e300]}, r"value 'w': gain holds 1e\+300, which float32 cannot hold"),
        ({"values__w__gain": [1e-60]}, r"value 'w': gain holds 1e-60, which float32 cannot hold"),
        ({"values__w__offset": [0, -1e39]}, r"value 'w': offset holds -1e\+39, which float32 cannot hold"),
        ({"values__w__nudge": 3}, r"value 'w': nudge is 3; it must be a text"),
        ({"nodes__conv__bias": "0"}, r"node 'conv': bias is '0'; it must be a list"),
        ({"nodes__conv__bias": [None]}, r"node 'conv': bias holds None; it must be finite numbers$"),
        ({"nodes__conv__bias": [float("inf")]}, r"node 'conv': bias holds inf; it must be finite numbers$"),
        ({"rescales": {}}, r"plan: rescales is \{\}; it must be a list"),
        ({"rescales__0": 3}, r"rescale is 3; it must be an object"),
        ({"rescales__0__value": ...}, r"rescale of None lacks the key 'value'"),
        ({"rescales__0__value": 3}, r"rescale of 3: value is 3; it must be a text"),
        ({"rescales__0__scale": ...}, r"rescale of 'x' lacks the key 'scale'"),
        ({"rescales__0__scale": [0.5, 0]}, r"rescale of 'x': scale holds 0; it must be finite numbers over 0"),
        ({"rescales__0__absorb": [float("nan")]}, r"rescale of 'x': absorb holds nan; it must be finite numbers$"),
        ({"rescales__0__unclip": "relu6"}, r"rescale of 'x': unclip is 'relu6'; it must be a list"),
        ({"rescales__1__why": 1}, r"rescale of 'y': why is 1; it must be a text"),
        ({"rescales__1__scales": []}, r"unknown key of rescale of 'y' 'scales'; did you mean 'scale'"),
    ],
)
def test_damaged_corrections_are_named(change, says):
    with pytest.raises(PlanError, match=says):
        Plan.from_json(changed(CORRECTED, **change))


# -- files that are no plan ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not valid JSON"),
        (b'{"fewbit_plan": 1, "values"', "is not valid JSON"),
        (b"\xff\xfe\x00", "cannot read"),
        (b"[" * 200_000, "is not valid JSON"),
        (b"[1, 2]", "not a fewbit plan"),
        (b"null", "not a fewbit plan"),
    ],
)
def test_files_that_are_no_plan_are_refused(tmp_path, content, says):
    file = tmp_path / "plan.json"
    file.write_bytes(content)
    with pytest.raises(PlanError, match=says):
        Plan.load(file)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(PlanError, match=r"there is no file .*none\.json"):
        Plan.load(tmp_path / "none.json")
    with pytest.raises(PlanError, match="is a folder; the file of a plan is needed"):
        Plan.load(tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(PlanError, match=r"is a folder; give .*plan\.json"):
        Plan.load(tmp_path)
    with pytest.raises(PlanError, match="cannot read"):
        Plan.load(tmp_path / "plan.json" / "inner.json")


def test_a_number_of_thousands_of_digits_is_no_plan(tmp_path):
    (tmp_path / "plan.json").write_text('{"fewbit_plan": ' + "1" * 5000 + "}")
    with pytest.raises(PlanError, match=r"plan\.json is not valid JSON"):
        Plan.load(tmp_path / "plan.json")


def test_a_plan_replaces_files_only_and_touches_no_neighbour(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="pipe: it is not a file"):
        PLAN.save(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / ".p.json.part").write_text("mine")
    PLAN.save(tmp_path / "p.json")
    assert sorted(os.listdir(tmp_path)) == [".p.json.part", "p.json", "pipe"]
    assert (tmp_path / ".p.json.part").read_text() == "mine"


def test_a_plan_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("old")
    with pytest.raises(OutputError, match=r"cannot write .*plan\.json: Not a directory"):
        PLAN.save(tmp_path / "file" / "plan.json")
    with pytest.raises(OutputError, match=r"cannot write .*none/plan\.json: No such file"):
        PLAN.save(tmp_path / "none" / "plan.json")
    with pytest.raises(OutputError, match="File name too long"):
        PLAN.save(tmp_path / ("n" * 300))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match="No space left"):
        PLAN.save(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"


# -- use -------------------------------------------------------------------------------------------------------------


def test_what_to_look_at_during_calibration():
    assert PLAN.observed() == {"x": "x", "y": "y"}
    assert PLAN.kept_float() == {"softmax": "no integer Softmax on onnxruntime"}
    assert PLAN.weight_key("w", "fc") == "w@fc"
    assert PLAN.weight_key("w", "conv") == "w"
    assert PLAN.weight_key("b", "conv") is None


def test_parameters_follow_from_the_range():
    assert PLAN.params("x") == params_from_range(U8, -1.5, 2.25)
    with pytest.raises(NotCalibrated, match="value 'w' has no range; run calibrate with data, or write a range into"):
        PLAN.params("w")


def test_a_plan_is_calibrated_when_all_activations_are():
    assert PLAN.calibrated
    bare = replace(PLAN, values={**PLAN.values, "x": replace(PLAN.values["x"], lo=None, hi=None)})
    assert not bare.calibrated


def test_ranges_reach_the_whole_group():
    plan = PLAN.with_ranges({"y": (-3.0, 4.0)})
    assert [(v.lo, v.hi) for v in (plan.values["y"], plan.values["z"])] == [(-3.0, 4.0)] * 2
    assert PLAN.with_ranges({"z": (-3.0, 4.0)}) == plan
    assert plan.values["x"] == PLAN.values["x"] and plan.values["w"] == PLAN.values["w"]
    assert type(PLAN.with_ranges({"x": (np.float32(0), np.float32(1))}).values["x"].lo) is float


@pytest.mark.parametrize(("lo", "signed"), [(0.0, False), (-0.5, True)])
def test_a_sign_left_to_the_data_is_settled(lo, signed):
    plan = Plan({"x": ValuePlan(QuantSpec(8), "act", "x")}, {}).with_ranges({"x": (lo, 1.0)})
    assert plan.values["x"].spec.signed is signed


def test_impossible_ranges_are_refused():
    with pytest.raises(UnknownName, match="unknown value 'zz'; did you mean 'z'"):
        PLAN.with_ranges({"zz": (0, 1)})
    with pytest.raises(ConfigError, match="upside down"):
        PLAN.with_ranges({"x": (1, 0)})
    with pytest.raises(ConfigError, match="not finite"):
        PLAN.with_ranges({"x": (0, float("inf"))})


def test_layers_can_be_turned_to_float():
    plan = PLAN.keep_float(["conv"], "it hurts")
    assert plan.nodes["conv"] == plan.nodes["relu"] == NodePlan(False, "it hurts")  # relu was merged into conv
    assert plan.nodes["softmax"] == PLAN.nodes["softmax"] and Plan.from_json(plan.to_json()) == plan
    with pytest.raises(UnknownName, match="unknown layer 'cnov'; did you mean 'conv'"):
        PLAN.keep_float(["cnov"], "")
