"""The tree of groups, and which of them are open at first."""

from __future__ import annotations

from fewbit.report.drawing.data import Box, Group
from fewbit.report.drawing.folding import MANY, Part, at_depth, fold, opened


def row(count: int, name: str = "n{}", ops: tuple[str, ...] = ("Conv", "Relu", "Conv", "Add")) -> list[Part]:
    """Blocks in a row, each added to what came in."""
    found: list[Part] = []
    for _ in range(count):
        for op in ops:
            at = len(found)
            reads = [name.format(at - 1)] if at else []
            reads += [name.format(at - len(ops))] if op == "Add" and at >= len(ops) else []
            found.append(Part(name.format(at), op, None, tuple(reads)))
    return found


def test_names_decide_where_there_are_any() -> None:
    tree = fold([Part(f"net/{i // 4}/{i}", "Conv", None, ()) for i in range(12)] + [Part("last", "Conv", None, ())])
    assert tree.paths["net/0/3"] == ("net", "net/0") and tree.titles["net/0"] == "net.0"
    assert tree.alike["net/0"] == tree.alike["net/1"]


def test_blocks_where_names_tell_nothing() -> None:
    tree = fold([*row(5), Part("end", "Softmax", None, ("n19",))])
    assert tree.paths["n8"] == ("#row0", "#block2") and tree.rows == {"#row0": 4}  # the first adds nothing
    assert tree.titles["#row0"] == "blocks 1 – 4" and tree.paths["end"] == () == tree.paths["n0"]


def test_alike_scopes_in_a_row_are_a_row() -> None:
    parts = [p for i in range(12) for p in row(1, f"layer{i}/{{}}")]
    parts.insert(0, Part("stem", "Conv", None, ()))
    parts = [p if (i - 1) % 4 else Part(p.name, p.op, None, (parts[i - 1].name,)) for i, p in enumerate(parts)]
    tree = fold([*parts, Part("end", "Softmax", None, (parts[-1].name,))])
    assert tree.titles["#row0"] == "layer0 – layer11" and tree.rows["#row0"] == 12
    assert tree.paths["layer3/1"] == ("#row0", "layer3")


def test_sizes_go_together_and_to_where_they_are_used() -> None:
    sizes = [Part(f"s{i}", "Gather", None, (f"s{i - 1}",) if i else ("a/1",), True) for i in range(3)]
    user = [Part(f"a/{i}", f"Op{i}", None, (f"a/{i - 1}",) if i else ()) for i in range(4)]
    user[3] = Part("a/3", "Reshape", None, ("a/2", "s2"))
    tree = fold([*user[:3], *sizes, user[3], Part("end", "Softmax", None, ("a/3",))])
    assert {tree.paths[f"s{i}"] for i in range(3)} == {("a", "#sizes s0")} and tree.titles["#sizes s0"] == "sizes"


def test_what_is_still_too_much_is_cut_into_parts() -> None:
    parts = [Part(f"n{i}", f"Op{i}", None, (f"n{i - 1}",) if i else ()) for i in range(MANY + 60)]
    tree = fold(parts)
    assert len({p[0] for p in tree.paths.values()}) == 9 and tree.titles[tree.paths["n0"][0]] == "part 1"


# -- what is open -----------------------------------------------------------------------------------------------------


def tree_of(*shape: tuple[str, str, int]) -> tuple[list[Group], list[Box]]:
    """(group, its parent, boxes in it)"""
    groups: list[Group] = []
    boxes: list[Box] = []
    for name, parent, count in shape:
        depth = 1 + next((g.depth for g in groups if g.id == parent), 0)
        groups.append(Group(name, name, name, parent, depth, name[0], count, ("",)))
        boxes += [Box(f"{name}{i}", "layer", f"{name}{i}", "Conv", group=name) for i in range(count)]
    return groups, boxes


def test_what_fits_is_open() -> None:
    groups, boxes = tree_of(("a", "", 3), ("b", "", 3), ("a2", "a", 4))
    assert opened(groups, boxes, 20) == ("a", "b", "a2")
    assert opened(groups, boxes, 8) == ("a", "b")
    assert opened(groups, boxes, 1) == ()


def test_of_a_level_that_does_not_fit_the_first_of_each_look_is_open() -> None:
    groups, boxes = tree_of(("a1", "", 5), ("a2", "", 5), ("b1", "", 5))
    assert opened(groups, boxes, 12) == ("a1", "b1")


def test_depth_is_counted_from_outside() -> None:
    groups, _ = tree_of(("a", "", 3), ("b", "a", 3))
    assert at_depth(groups, 0) == () and at_depth(groups, 1) == ("a",) and at_depth(groups, 9) == ("a", "b")


def test_guessed_scopes_that_values_leave_and_enter_again_are_none() -> None:
    parts: list[Part] = []
    for i in range(4):
        for op in ("conv", "bn", "relu"):
            parts.append(Part(f"{op}0_block{i}", op, None, (parts[-1].name,) if parts else ()))
    assert {path for path in fold(parts).paths.values() if any("conv0" in s for s in path)} == set()
    whole = [Part(f"stage{i}_{op}", op, None, ()) for i in range(3) for op in "abcd"]
    assert fold(whole).paths["stage1_a"] == ("stage1",)
