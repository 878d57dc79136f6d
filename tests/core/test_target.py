import pytest

import fewbit.engines  # noqa: F401  registers the targets
from fewbit.core.plan import NodePlan, Plan
from fewbit.core.spec import QuantSpec
from fewbit.core.target import CONDITIONS, INPUT_ROLES, OUTPUT_ROLES, TARGETS, NodeFacts, OpRule, Target
from fewbit.errors import UnknownName

TARGET = Target(
    "t",
    "qdq",
    QuantSpec(8, signed=False),
    QuantSpec(8, signed=True),
    (
        OpRule("Conv", ("act", "weight", "bias"), when="depthwise", note="first"),
        OpRule("Conv", ("act", "weight", "bias"), when="weight is constant", note="second"),
        OpRule("Concat", ("act",), shares=True),
    ),
)


def conv(weight=(4, 3, 3, 3), groups=1, constant=(False, True, True), **attrs) -> NodeFacts:
    shapes = ((1, 3, 8, 8), weight, (4,))
    ranks = tuple(len(s) if s is not None else None for s in shapes)
    return NodeFacts("Conv", ranks, shapes, constant, groups, 4, attrs)


def test_the_first_row_that_fits_decides():
    assert TARGET.rule(conv((4, 1, 3, 3), 4)).note == "first"
    assert TARGET.rule(conv()).note == "second"
    assert TARGET.rule(conv(constant=(False, False, True))) is None
    assert TARGET.rule(NodeFacts("Softmax")) is None
    assert TARGET.has("Conv") and not TARGET.has("Softmax")


def test_the_last_role_repeats():
    assert [TARGET.rules[0].role(i) for i in range(4)] == ["act", "weight", "bias", "bias"]
    assert TARGET.rules[2].role(9) == "act"


def test_an_unknown_condition_is_refused():
    with pytest.raises(UnknownName, match="unknown condition 'depthwize'; did you mean 'depthwise'"):
        OpRule("Conv", ("act",), when="depthwize")


@pytest.mark.parametrize("words", [{"inputs": ("activation",)}, {"inputs": ("act",), "outputs": ("weight",)}])
def test_unknown_roles_are_our_own_bug(words):
    with pytest.raises(AssertionError):
        OpRule("Conv", **words)


def test_missing_inputs_have_neither_rank_nor_value():
    facts = NodeFacts("Clip", (3, None), ((1, 2, 3), None), (False, False))
    assert [facts.rank(i) for i in range(3)] == [3, None, None]
    assert not facts.is_const(2) and not facts.depthwise


def test_every_condition_answers_for_facts_that_know_nothing():
    for name, condition in CONDITIONS.items():
        assert isinstance(condition(NodeFacts("Any")), bool), name


def pool(**attrs: object) -> NodeFacts:
    return NodeFacts("AveragePool", attrs=attrs)


GEMM = {"constant": (False, True), "ranks": (2, 2), "shapes": ((None, 3), (3, 4))}


@pytest.mark.parametrize(
    ("name", "yes", "no"),
    [
        ("depthwise", conv((4, 1, 3, 3), 4), conv((4, 2, 3, 3), 2)),
        ("grouped", conv((4, 2, 3, 3), 2), conv((4, 1, 3, 3), 4)),
        ("weight is constant", conv(), conv(constant=(False, False, True))),
        ("2-D convolution", conv(), conv((4, 3, 3))),
        ("1-D convolution", conv((4, 3, 3)), conv()),
        ("3-D convolution", conv((4, 3, 3, 3, 3)), conv()),
        ("2-D depthwise convolution", conv((4, 1, 3, 3), 4), conv((4, 1, 3), 4)),
        ("both computed", NodeFacts("Add", constant=(False, False)), NodeFacts("Add", constant=(False, True))),
        ("matrix weight", NodeFacts("MatMul", **GEMM), NodeFacts("MatMul", **{**GEMM, "ranks": (3, 3)})),
        ("matrix weight, not behind Concat", NodeFacts("M", **GEMM), NodeFacts("M", **GEMM, joined=True)),
        ("no dilations", pool(dilations=(1, 1)), pool(dilations=(1, 2))),
        ("no dilations, no padding counted", pool(pads=(1, 1)), pool(pads=(0, 1), count_include_pad=1)),
        (
            "no dilations, no padding counted",
            pool(count_include_pad=1),
            pool(auto_pad="SAME_UPPER", count_include_pad=1),
        ),
        ("no dilations, no padding counted", pool(pads=(0, 0), count_include_pad=1), pool(dilations=(2,))),
        (
            "no dilations, no padding counted with ceil_mode",
            pool(pads=(1, 1), count_include_pad=1),
            pool(count_include_pad=1, ceil_mode=1),
        ),
        ("plain Gemm", NodeFacts("Gemm", **GEMM), NodeFacts("Gemm", **GEMM, attrs={"alpha": 0.5})),
        ("plain Gemm", NodeFacts("Gemm", **GEMM, attrs={"transB": 1}), NodeFacts("Gemm", **GEMM, attrs={"transA": 1})),
    ],
)
def test_conditions(name, yes, no):
    assert CONDITIONS[name](yes) and not CONDITIONS[name](no)


@pytest.mark.parametrize(
    ("weight", "groups", "thin"),
    [
        ((1, 1, 1, 256), 1, True),
        ((4, 8, 3, 3), 1, True),
        ((16, 3, 3, 3), 1, True),
        ((64, 3, 3, 3), 1, False),
        ((64, 3, 7, 7), 1, False),
        ((32, 8, 1, 1), 1, False),
        ((1, 32, 7, 3), 1, False),
        ((4, 1, 3, 3), 4, False),
        ((4, None, 3, 3), 1, False),
        ((4, 8), 1, False),
    ],
)
def test_a_thin_convolution_has_few_channels_on_one_side(weight, groups, thin):
    assert conv(weight, groups).thin is thin


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_plans_of_every_target_may_hold_every_role_of_its_rows(name):
    target = TARGETS[name]
    for rule in (*target.rules, *target.dynamic, *target.by_row):
        assert {*rule.inputs} <= {*INPUT_ROLES} and {*rule.outputs} <= {*OUTPUT_ROLES}
        plan = Plan({}, {"layer": NodePlan(True, "", rule.inputs, rule.outputs)}, name)
        assert Plan.from_json(plan.to_json()) == plan
