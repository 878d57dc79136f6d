"""What `explain` reads off debug tables: three kinds of findings, a short proposal, and errors that name the place."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fewbit.core.tables import dumps
from fewbit.errors import DataError, UsageError
from fewbit.report.blame import PASSED_ON, blame, noise
from fewbit.report.debug_read import read_debug
from fewbit.report.debug_tables import PARAMS, ROUND, SUMMARY
from fewbit.report.explain import ENOUGH, HIGH_CLIP, LOW_COSINE, MOST, OVERSHOOT, UNLIKE, WORTH, explain
from fewbit.report.explanation import Explanation, Figures, Gain
from tests.report.helpers import golden


def tensor(
    names: str, cosine: float = 1.0, clip: float = 0.0, original: Any = (-1, 1), dequantized: Any = None
) -> list[str]:
    """Both lines of a tensor; names: node, operator, tensor, Input or Output [, Weight]."""
    node, op, name, side, *kind = names.split()
    low, high = dequantized or original
    front, kind_ = f"{node},{op},{name},{side}", kind[0] if kind else "Activation"
    middle = "0,0,0"
    return [
        f"{front},Origin,{kind_},{original[0]},{middle},{original[1]},0,1,0,0,1,",
        f"{front},Dequant,{kind_},{low},{middle},{high},0,1,0,{clip},{cosine},",
    ]


def write(
    folder: Path,
    *rounds: Iterable[list[str]],
    scales: Iterable[str] | None = None,
    outputs: Iterable[tuple[int, str, float]] = (),
) -> Path:
    """A debug folder of these tensors; scales: node, tensor, scale."""
    folder.mkdir(exist_ok=True)
    for n, tensors in enumerate(rounds):
        lines = [line for t in tensors for line in t]
        text = "\n".join([ROUND, *(f"{i},{line}" for i, line in enumerate(lines))])
        (folder / f"round_{n}.csv").write_text(text + "\n")
    if scales is not None:
        rows = [f"{node},Conv,{name},1,1 ,{scale},0,8,1,0," for node, name, scale in map(str.split, scales)]
        (folder / "quant_param.csv").write_text("\n".join([PARAMS, *rows]) + "\n")
    told = [f"{n},{name},{cosine}," for n, name, cosine in outputs]
    (folder / "output_summary.csv").write_text("\n".join([SUMMARY, *told]) + "\n")
    return folder


BAD = [
    tensor("conv1 Conv x Input"),
    tensor("conv1 Conv a Output", 0.9),
    tensor("conv2 Conv a Input", 0.9),
    tensor("conv2 Conv b Output", 0.8999),
    tensor("conv3 Conv b Input", 0.999),
    tensor("conv3 Conv c Output", 0.97, clip=0.2, original=(-2, 8), dequantized=(-2, 3)),
    tensor("cat Concat a Input", 0.9, original=(-1, 1)),
    tensor("cat Concat c Input", 0.97, original=(-2, 20)),
    tensor("cat Concat d Output", 0.96),
]


# -- reading ----------------------------------------------------------------------------------------------------------


def test_rounds_are_put_together(tmp_path: Path) -> None:
    first = [tensor("c Conv y Output", 0.9, clip=0.1, original=(-1, 2), dequantized=(-1, 1))]
    second = [tensor("c Conv y Output", 0.7, clip=0.3, original=(-3, 1), dequantized=(-2, 1))]
    outputs = [(0, "y", 0.9), (0, "z", 1.0), (1, "y", 0.7), (1, "z", 0.8)]
    found = read_debug(write(tmp_path, first, second, outputs=outputs, scales=["c w 1", "c w 2", "c y 3"]))
    (y,) = found.tensors
    assert (y.original, y.dequantized) == ((-3, 2), (-2, 1)) and found.rounds == 2
    assert (y.clip, y.cosine) == pytest.approx((0.2, 0.8)) and found.scales is not None
    assert set(found.scales) == {"c"} and found.scales["c"]["y"] == 3 and math.isnan(found.scales["c"]["w"])
    assert found.outputs == pytest.approx({"y": 0.8, "z": 0.9}) and found.cosine == pytest.approx(0.8)


def test_tables_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    rounds = [[tensor(f"c{n} Conv y Output")] for n in range(12)]
    assert [t.node for t in read_debug(write(tmp_path, *rounds)).tensors] == [f"c{n}" for n in range(12)]


@pytest.mark.parametrize("form", ["no last comma", "quoted", "windows", "mark", "case", "spaces", "blank lines"])
def test_forms_that_other_writers_choose(tmp_path: Path, form: str) -> None:
    wanted = explain(write(tmp_path / "a", BAD))
    write(tmp_path / "b", BAD)
    for file in (tmp_path / "b").iterdir():
        lines = file.read_text().splitlines()
        match form:
            case "no last comma":
                lines = [line.removesuffix(",") for line in lines]
            case "quoted":
                lines = [",".join(f'"{cell}"' for cell in line.split(",")) for line in lines]
            case "mark":
                lines[0] = "\ufeff" + lines[0]
            case "case":
                lines[0] = lines[0].replace("Max", "MAX")
            case "spaces":
                lines = [line.replace(",", " , ") for line in lines]
            case "blank lines":
                lines = [*lines[:2], "", *lines[2:], "", ""]
        file.write_bytes(("\r\n" if form == "windows" else "\n").join(lines).encode())
    assert explain(tmp_path / "b") == wanted


def test_a_name_may_hold_a_comma_if_quoted(tmp_path: Path) -> None:
    write(tmp_path, [tensor("c Conv y Output", 0.5)])
    file = tmp_path / "round_0.csv"
    file.write_text(file.read_text().replace(",c,", ',"a,b",'))
    assert explain(tmp_path).proposal == ("a,b",)
    file.write_text(file.read_text().replace('"a,b"', "a,b"))
    with pytest.raises(DataError, match=r"round_0.csv, line 2: 18 cells under 17 columns; .* need double quotes"):
        explain(tmp_path)


def test_folders_without_tables(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no folder .*gone; give the one that debug_info_save_path named"):
        explain(tmp_path / "gone")
    (tmp_path / "round_a.csv").write_text("")
    with pytest.raises(UsageError, match=r"holds no round_0.csv; give the folder that debug_info_save_path named"):
        explain(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Clip", "Clop", r"no column Clip; the columns of such a table are NodeName,.*CosineSimilarity$"),
        ("0.2,0.97", "0.2,often", r"round_0.csv, line 13: CosineSimilarity is 'often'; it must be a number"),
        ("Dequant,Activation,-2", "Quant,Activation,-2", r"line 13: unknown DataTypeFlag 'Quant'; did you mean"),
        ("8,0,1,0,0,1,", "8,0,1,", r"round_0.csv, line 12: 15 cells under 17 columns; it was cut off"),
        ("NodeName", "\x00\xff", r"round_0.csv has no column NodeName|cannot read"),
    ],
)  # fmt: skip
def test_damage_is_located(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = write(tmp_path, BAD) / "round_0.csv"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=message):
        explain(tmp_path)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, BAD) / "round_0.csv"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"cannot read .*round_0.csv: 'utf-8' codec"):
        explain(tmp_path)
    file.write_text("")
    with pytest.raises(DataError, match=r"round_0.csv has no column NodeName"):
        explain(tmp_path)
    write(tmp_path, BAD)
    (tmp_path / "output_summary.csv").write_text("Round,TensorName,CosineSimilarity,\n0,y,near,\n")
    with pytest.raises(DataError, match=r"output_summary.csv, line 2: CosineSimilarity is 'near'; it must be a number"):
        explain(tmp_path)


def test_files_that_may_be_missing(tmp_path: Path) -> None:
    write(tmp_path, BAD)
    (tmp_path / "output_summary.csv").unlink()
    found = explain(tmp_path)
    assert found.cosine is None and found.proposal
    assert any("no quant_param.csv" in note for note in found.notes)


# -- findings ---------------------------------------------------------------------------------------------------------


def test_each_of_the_three_is_found(tmp_path: Path) -> None:
    found = explain(write(tmp_path, BAD, outputs=[(0, "d", 0.95)]))
    told = {(f.kind, f.node, f.value) for f in found.findings}
    assert told == {
        ("cosine", "conv1", "a"), ("cosine", "conv2", "b"), ("cosine", "conv3", "c"), ("cosine", "cat", "d"),
        ("ranges", "cat", "a"), ("clip", "conv3", "c"),
    }  # fmt: skip
    by = {(f.kind, f.node): f for f in found.findings}
    assert by["ranges", "cat"].number == 20 and by["clip", "conv3"].number == 0.2
    whole = noise(0.96)
    third = whole * noise(0.97) / (noise(0.97) + noise(0.9)) * (1 - PASSED_ON * noise(0.999) / noise(0.97))
    assert by["cosine", "conv3"].benefit == pytest.approx(third) and by["cosine", "conv2"].benefit == 0
    assert by["cosine", "conv1"].benefit == pytest.approx(whole - third)
    assert [f.benefit for f in found.findings] == sorted((f.benefit for f in found.findings), reverse=True)


def test_noise_that_is_passed_on_is_not_proposed(tmp_path: Path) -> None:
    assert explain(write(tmp_path, BAD)).proposal == ("conv1", "conv3")


SHARED = ["conv1 a 0.1", "conv2 b 0.2", "conv3 c 0.1", "cat a 0.1", "cat c 0.1", "cat d 0.1"]


def test_a_join_is_to_blame_where_its_inputs_share_a_scale(tmp_path: Path) -> None:
    found = explain(write(tmp_path, BAD, scales=SHARED))
    by = {(f.kind, f.node): f for f in found.findings}
    assert by["ranges", "cat"].benefit == by["cosine", "conv1"].benefit > 0.05
    assert found.proposal == ("cat", "conv3")  # conv1 is noisy because its output has the steps of the other
    own = [line.replace("cat a 0.1", "cat a 0.01") for line in SHARED]
    found = explain(write(tmp_path, BAD, scales=own))
    assert found.proposal == ("conv1", "conv3")
    fed = [
        tensor("cat Concat x Input", 0.9),
        tensor("cat Concat c Input", original=(-2, 20)),
        tensor("cat Concat d Output", 0.9),
    ]
    assert explain(write(tmp_path, fed, scales=["cat x 1", "cat c 1"])).proposal == ("cat",)


@pytest.mark.parametrize(
    ("tensors", "kinds"),
    [
        ([tensor("c Conv y Output", LOW_COSINE)], []),
        ([tensor("c Conv y Output", LOW_COSINE - 1e-6)], ["cosine"]),
        ([tensor("c Conv x Input", 0.5)], []),
        ([tensor("a Add p Input", original=(-1, 1)), tensor("a Add q Input", original=(0, UNLIKE))], ["ranges"]),
        ([tensor("a Add p Input", original=(-1, 1)), tensor("a Add q Input", original=(0, UNLIKE - 0.1))], []),
        ([tensor("a Mul p Input", original=(-1, 1)), tensor("a Mul q Input", original=(0, 99))], []),
        ([tensor("a Add p Input Weight"), tensor("a Add q Input", original=(0, 99))], []),
        ([tensor("a Add p Input", original=(0, 0)), tensor("a Add q Input", original=(0, 99))], []),
        ([tensor("c Conv y Output", clip=HIGH_CLIP, original=(0, 9), dequantized=(0, 1))], []),
        ([tensor("c Conv y Output", clip=0.5, original=(0, 9), dequantized=(0, 1))], ["clip"]),
        ([tensor("c Conv y Output", clip=0.5, original=(0, 1), dequantized=(0, 1 - OVERSHOOT / 2))], []),
        ([tensor("c Conv y Output", math.nan)], ["cosine"]),
    ],
)
def test_where_the_limits_are(tmp_path: Path, tensors: list[list[str]], kinds: list[str]) -> None:
    tensors = [*tensors, tensor("last Conv z Output")]
    assert [f.kind for f in explain(write(tmp_path, tensors)).findings] == kinds


@pytest.mark.parametrize("op", ["Add", "AddFusion", "Eltwise", "Concat"])
def test_operators_of_both_tools_join_values(tmp_path: Path, op: str) -> None:
    tensors = [tensor(f"a {op} p Input"), tensor(f"a {op} q Input", original=(-40, 3)), tensor(f"a {op} y Output")]
    (found,) = explain(write(tmp_path, tensors)).findings
    assert (found.kind, found.value, found.number) == ("ranges", "p", 40)


def test_a_value_that_is_cut_off_is_told_of_where_it_is_made(tmp_path: Path) -> None:
    words: dict[str, Any] = {"cosine": 0.9, "clip": 0.5, "original": (0, 9), "dequantized": (0, 1)}
    read, made = tensor("b Conv y Input", **words), tensor("a Conv y Output", **words)
    assert [f.node for f in explain(write(tmp_path, [read, made])).findings if f.kind == "clip"] == ["a"]
    (found,) = (f for f in explain(write(tmp_path, [read, tensor("b Conv z Output")])).findings if f.kind == "clip")
    assert found.node == "b"


def test_weights_count_where_nothing_else_is_told(tmp_path: Path) -> None:
    weights = [tensor("a Conv w Input Weight", 0.9), tensor("b Conv v Input Weight", 0.9999)]
    found = explain(write(tmp_path, weights))
    assert [(f.kind, f.node) for f in found.findings] == [("weight", "a")] and found.proposal == ("a",)
    assert any("weights only" in note for note in found.notes)
    assert not explain(write(tmp_path, [*weights, tensor("a Conv y Output")])).findings


# -- the proposal -----------------------------------------------------------------------------------------------------


def test_noise_follows_from_the_cosine() -> None:
    assert noise(1) == 0 and noise(0.5) == pytest.approx(3) and math.isinf(noise(math.nan))
    assert noise(0.01) == noise(0) == noise(-0.5) == 100


def layers(*cosines: float, start: float = 1.0) -> list[list[str]]:
    """A chain of layers c0, c1, …, by the cosines of their outputs."""
    found, before = [], start
    for n, cosine in enumerate(cosines):
        found += [tensor(f"c{n} Conv v{n} Input", before), tensor(f"c{n} Conv v{n + 1} Output", cosine)]
        before = cosine
    return found


def test_noise_is_traced_back_to_where_it_begins(tmp_path: Path) -> None:
    told = blame(read_debug(write(tmp_path / "a", layers(0.999, 0.997, 0.99, 0.97))))
    assert told == pytest.approx({"c0": noise(0.97), "c1": 0, "c2": 0, "c3": 0})  # it grew, but never by more than 4
    told = blame(read_debug(write(tmp_path / "b", layers(0.9999, 0.9))))
    assert told["c0"] == pytest.approx(PASSED_ON * noise(0.9999)) and sum(told.values()) == pytest.approx(noise(0.9))
    found = explain(write(tmp_path / "c", layers(0.997, 0.9899)))
    assert [(f.kind, f.node) for f in found.findings] == [("source", "c0"), ("cosine", "c1")]
    assert found.findings[0].number == pytest.approx(1) and found.proposal == ("c0",)


def test_weights_and_rounding_are_noise_of_a_layers_own(tmp_path: Path) -> None:
    chain = [*layers(0.99), tensor("c1 Conv v1 Input", 0.99), tensor("c1 Conv w Input Weight", 0.999)]
    chain += [tensor("c1 Conv v2 Output", 0.98)]
    told = blame(read_debug(write(tmp_path, chain, scales=["c1 v2 0.3"])))
    assert told["c1"] == pytest.approx(noise(0.999) + 0.3**2 / 12)
    assert sum(told.values()) == pytest.approx(noise(0.98))


def test_rounding_at_run_time_is_the_readers_own(tmp_path: Path) -> None:
    chain = [*layers(0.999), tensor("c1 Conv v1 Input", 0.99), tensor("c1 Conv v2 Output", 0.99)]
    told = blame(read_debug(write(tmp_path, chain)))
    assert told["c0"] == pytest.approx(noise(0.999)) and told["c1"] == pytest.approx(noise(0.99) - noise(0.999))


def test_outputs_of_layers_in_float_count(tmp_path: Path) -> None:
    told = blame(read_debug(write(tmp_path, layers(0.99), outputs=[(0, "y", 0.8)])))
    assert told == pytest.approx({"c0": noise(0.8)})
    loop = [
        tensor("a Conv v Input", 0.9),
        tensor("a Conv u Output", 0.9),
        tensor("b Conv u Input"),
        tensor("b Conv v Output"),
    ]
    assert blame(read_debug(write(tmp_path, loop, outputs=[(0, "u", 0.9)]))) == pytest.approx({"a": noise(0.9), "b": 0})


def test_few_layers_are_proposed_best_first(tmp_path: Path) -> None:
    equal = [tensor(f"c{n} Conv y{n} Output", 0.9 - 0.001 * n) for n in range(20)]
    outputs = [(0, f"y{n}", 0.9) for n in range(20)]
    assert explain(write(tmp_path, equal, outputs=outputs)).proposal == tuple(f"c{n}" for n in range(19, 19 - MOST, -1))
    one = [tensor("big Conv y Output", 0.5), *(tensor(f"c{n} Conv y{n} Output", 0.985) for n in range(3))]
    assert noise(0.5) > ENOUGH * (noise(0.5) + 3 * noise(0.985)) and noise(0.985) > WORTH
    assert explain(write(tmp_path, one, outputs=[*outputs, (0, "y", 0.5)])).proposal == ("big",)


def test_only_integer_layers_are_proposed(tmp_path: Path) -> None:
    assert explain(write(tmp_path, BAD, scales=["conv3 c 1", "conv2 b 1"])).proposal == ("conv3",)


def test_a_layer_that_breaks_the_network_comes_alone(tmp_path: Path) -> None:
    broken = [
        tensor("a Conv p Output", 0.6),
        tensor("b Conv p Input", 0.6),
        tensor("b Conv q Output", math.nan),
        tensor("c Conv q Input", math.nan),
        tensor("c Conv r Output", math.nan),
    ]
    found = explain(write(tmp_path, broken, outputs=[(0, "r", math.nan)]))
    assert found.proposal == ("b",) and found.cosine is not None and math.isnan(found.cosine)
    assert json.loads(dumps(found.to_json()))["findings"][0]["benefit"] == "inf"


# -- for people and machines ------------------------------------------------------------------------------------------


def example(folder: Path) -> Explanation:
    found = explain(write(folder, BAD, BAD, outputs=[(0, "d", 0.95), (1, "d", 0.95)], scales=SHARED))
    gain = Gain(Figures(0.95, 10.2, 0.412, 1_200_000), Figures(0.9991, 27.4, 0.538, 2_400_000), 16)
    return Explanation(**{**vars(found), "gain": gain})


def test_the_text(tmp_path: Path) -> None:
    golden("explain", example(tmp_path).text())


def test_the_text_of_nothing(tmp_path: Path) -> None:
    text = explain(write(tmp_path, [tensor("c Conv y Output")], outputs=[(0, "y", 1.0)], scales=["c y 1"])).text()
    assert text == (
        "1 round, 1 layer, output cosine 1.00000\n\n"
        "nothing stands out: no layer far from float, no unlike ranges, no value cut off"
    )
    text = explain(write(tmp_path, layers(0.98, 0.9999))).text()
    assert (
        "no proposal: too little of the noise at the outputs begins in any of these" in text
        and "skip_quant_node" not in text
    )


def test_json_holds_everything(tmp_path: Path) -> None:
    found = json.loads(dumps(example(tmp_path).to_json()))
    assert found["skip_quant_node"] == "skip_quant_node=" + ",".join(found["proposal"])
    assert found["exclude_layers"] == "--exclude-layers " + ",".join(found["proposal"])
    assert found["helps"] is True and found["gain"]["after"]["cosine"] == 0.9991
    assert set(found["findings"][0]) == {"kind", "node", "op", "value", "number", "reason", "benefit"}


def test_a_proposal_that_does_not_help_is_called_so() -> None:
    worse = Gain(Figures(0.99, 17.0, 0.5, 1000), Figures(0.98, 14.0, 0.6, 2000), 16)
    assert not worse.helps and "the proposal does not bring the output nearer to float" in worse.text()
    healed = Gain(Figures(math.nan, math.nan, 0.5, 1000), Figures(0.98, 14.0, 0.6, 2000), 16)
    assert healed.helps and "does not bring" not in healed.text()
    assert not Gain(Figures(None, None, 0.5, 1000), Figures(None, None, 0.6, 2000), 16).helps
