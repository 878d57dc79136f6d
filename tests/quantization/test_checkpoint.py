import os

import numpy as np
import pytest

from fewbit.calib import make_observer
from fewbit.core.plan import Plan, ValuePlan
from fewbit.core.spec import QuantSpec
from fewbit.errors import OutputError, PlanError
from fewbit.quantization import checkpoint
from fewbit.quantization.checkpoint import Checkpoint

SPEC = QuantSpec(8, signed=False)
PLAN = Plan({n: ValuePlan(SPEC, "act", n, calib_mode="entropy") for n in ("b/x", "a", "c")}, {})
MODES = ("naive", "entropy", "kl", "percentile", "mse", "ema", "quantile")


def observers(mode: str = "entropy", *, filled: bool = True):
    made = {n: make_observer(mode, SPEC) for n in PLAN.values}
    for i, seen in enumerate(made.values()):
        for batch in range(3 if filled else 0):
            seen.update(np.random.default_rng([i, batch]).standard_normal(1000).astype(np.float32), batch)
    return made


@pytest.mark.parametrize("mode", MODES)
def test_what_was_learned_comes_back(tmp_path, mode):
    before = observers(mode)
    Checkpoint(tmp_path / "c.npz", PLAN).write(7, before)
    after = observers(mode, filled=False)
    assert Checkpoint(tmp_path / "c.npz", PLAN).restore(after) == 7
    assert os.listdir(tmp_path) == ["c.npz"]
    more = np.random.default_rng(9).standard_normal(1000).astype(np.float32)
    for name, seen in before.items():
        assert after[name].result() == seen.result()
        seen.update(more, 3)
        after[name].update(more, 3)
        assert after[name].result() == seen.result()


def test_the_later_state_replaces_the_earlier_one(tmp_path):
    keep = Checkpoint(tmp_path / "c.npz", PLAN)
    keep.write(1, observers(filled=False))
    keep.write(2, observers())
    found = observers(filled=False)
    assert keep.restore(found) == 2 and found["a"].result() == observers()["a"].result()


def test_without_a_file_everything_starts_over(tmp_path):
    keep = Checkpoint(tmp_path / "c.npz", PLAN)
    assert keep.restore(observers(filled=False)) == 0
    keep.remove()
    keep.write(1, observers())
    keep.remove()
    assert os.listdir(tmp_path) == []


def test_other_plans_are_refused(tmp_path):
    Checkpoint(tmp_path / "c.npz", PLAN).write(1, observers())
    other = Plan({**PLAN.values, "a": ValuePlan(QuantSpec(4, False), "act", "a")}, {})
    with pytest.raises(PlanError, match=r"c\.npz belongs to another network, other data or other settings; delete"):
        Checkpoint(tmp_path / "c.npz", other).restore(observers(filled=False))


def npy(path):
    with open(path, "wb") as out:
        np.save(out, np.zeros(3))


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"a text"),
        lambda p: p.write_bytes(p.read_bytes()[:-100]),
        lambda p: p.write_bytes(p.read_bytes()[:100]),
        lambda p: p.write_bytes(p.read_bytes().replace(b"NUMPY", b"NUMPI")),
        npy,
        lambda p: np.savez(p, key=np.array("x")),
        lambda p: np.savez(p, key=np.array([{}], dtype=object), batches=np.array(1)),
        lambda p: (p.unlink(), p.mkdir()),
    ],
)
def test_damaged_files_are_refused(tmp_path, damage):
    keep = Checkpoint(tmp_path / "c.npz", PLAN)
    keep.write(1, observers())
    damage(tmp_path / "c.npz")
    with pytest.raises(
        PlanError, match=r"c\.npz is not a checkpoint of fewbit, or is damaged: .*; delete it to start over"
    ):
        keep.restore(observers(filled=False))


def test_a_checkpoint_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    with pytest.raises(OutputError, match=r"cannot write .*none/c\.npz: No such file"):
        Checkpoint(tmp_path / "none" / "c.npz", PLAN).write(1, observers())
    keep = Checkpoint(tmp_path / "c.npz", PLAN)
    keep.write(1, observers())

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keep.write(2, observers())
    assert os.listdir(tmp_path) == ["c.npz"]
    assert keep.restore(observers(filled=False)) == 1


def test_it_is_due_after_some_seconds(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    keep = Checkpoint(tmp_path / "c.npz", PLAN, every=5.0)
    assert not keep.due()
    now[0] += 5
    assert keep.due()
    keep.write(1, observers())
    assert not keep.due()
