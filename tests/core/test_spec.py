import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.core.spec import QuantSpec
from fewbit.errors import ConfigError, UnknownName


@pytest.mark.parametrize(
    "spec, qmin, qmax, storage",
    [
        (QuantSpec(8, True), -128, 127, "int8"),
        (QuantSpec(8, True, narrow=True), -127, 127, "int8"),
        (QuantSpec(8, False), 0, 255, "uint8"),
        (QuantSpec(7, True), -64, 63, "int8"),
        (QuantSpec(9, False), 0, 511, "uint16"),
        (QuantSpec(16, True), -32768, 32767, "int16"),
        (QuantSpec(16, False), 0, 65535, "uint16"),
        (QuantSpec(1, True), -1, 1, "int8"),
        (QuantSpec(1, False), 0, 1, "uint8"),
        (QuantSpec(2, True, narrow=True), -1, 1, "int8"),
    ],
)
def test_integers_of_a_format(spec, qmin, qmax, storage):
    assert (spec.qmin, spec.qmax, spec.storage) == (qmin, qmax, storage)
    assert spec.fills_storage == (spec.bits in (8, 16) and not spec.narrow)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"bits": 0}, "bits is 0; it must be a whole number from 1 to 16"),
        ({"bits": 17}, "bits is 17"),
        ({"bits": True}, "bits is True"),
        ({"bits": 8.0}, "bits is 8.0"),
        ({"axis": 0}, "'tensor' takes neither axis nor group_size"),
        ({"group_size": 8}, "'tensor' takes neither axis nor group_size"),
        ({"granularity": "channel"}, "'channel' needs an axis"),
        ({"granularity": "channel", "axis": 0, "group_size": 8}, "group_size goes with granularity 'group'"),
        ({"granularity": "group", "axis": 0}, "group_size goes with granularity 'group'"),
        ({"granularity": "group", "axis": 0, "group_size": 0}, "group_size is 0; it must be 1 or more"),
        ({"signed": False, "narrow": True}, "narrow is for signed formats"),
        ({"granularity": "group", "axis": 0, "group_size": 8, "dynamic": True}, "per tensor or per channel"),
    ],
)
def test_what_contradicts_itself_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        QuantSpec(**fields)


def test_unknown_granularity_offers_the_nearest():
    with pytest.raises(UnknownName, match="unknown granularity 'chanel'; did you mean 'channel'"):
        QuantSpec(granularity="chanel", axis=0)


def test_resolve_settles_the_sign_once():
    auto = QuantSpec(narrow=True)
    assert auto.resolve(-1e-9) == QuantSpec(signed=True)
    assert auto.resolve(0.0) == QuantSpec(signed=False)
    forced = QuantSpec(signed=True, narrow=True)
    assert forced.resolve(0.0) is forced


specs = st.builds(
    QuantSpec,
    bits=st.integers(1, 16),
    signed=st.sampled_from([None, True, False]),
    symmetric=st.booleans(),
    dynamic=st.booleans(),
) | st.builds(
    QuantSpec,
    bits=st.integers(1, 16),
    signed=st.just(True),
    granularity=st.just("group"),
    axis=st.integers(-2, 2),
    group_size=st.integers(1, 64),
    narrow=st.booleans(),
)


@given(specs)
def test_json_round_trip(spec):
    fields = spec.to_json()
    assert "bits" in fields
    assert QuantSpec.from_json(fields) == spec


def test_json_names_unknown_fields():
    with pytest.raises(UnknownName, match="unknown format field 'bit'; did you mean 'bits'"):
        QuantSpec.from_json({"bit": 8})
