"""Several processes that run the same networks, each pinned to cores of its own and started at the same moment.

    parent   ── Job ──▶  child 0 (cores 0, 1): loads the networks   ── "ready" ──▶
             ── Job ──▶  child 1 (cores 2, 3): loads the networks   ── "ready" ──▶
             ── (network, batch, runs, seconds, moment) ──▶ both: wait for the moment, run   ── Stint ──▶

Messages are pickled, through pipes that nobody else can reach. A child ends when its pipe does, whatever became of the
parent. Children are plain interpreters, not forks: a fork would copy threads of engines, and forget their locks.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, BinaryIO

from fewbit.core.instances import Cores, Stint
from fewbit.core.runner import Feeds, Runner
from fewbit.errors import EngineError, FewbitError, UsageError

if TYPE_CHECKING:
    from fewbit.graph.model import Model

AHEAD = 0.005
"""Seconds from telling all instances of a moment until it comes."""

PATIENCE = 5.0
"""Seconds that an instance may take to end."""

CHILD = "from fewbit.engines.instances import serve; serve()"


@dataclass(frozen=True)
class Job:
    """What an instance is for.

    Args:
        networks: name → ONNX file. feeds: batch size → what a run is fed with. engine, options: what runs them.
        cores: to run on.
    """

    networks: Mapping[str, Path]
    feeds: Mapping[int, Feeds]
    engine: str
    options: Mapping[str, Any]
    cores: tuple[int, ...]


@dataclass
class Instances:
    """Processes that are ready to run."""

    children: Sequence[subprocess.Popen[bytes]]
    errors: Sequence[BinaryIO] = field(repr=False)

    def together(self, network: str, batch: int, runs: int, seconds: float) -> list[Stint]:
        """Run a network in all instances at once: so many times, or, if that is 0, for so many seconds.

        Raises:
            EngineError: an instance failed or died.
        """
        return self._ask((network, batch, runs, seconds, time.monotonic() + AHEAD))

    def _ask(self, message: object) -> list[Any]:
        for i in range(len(self.children)):
            self._tell(i, message)
        return [self._answer(i) for i in range(len(self.children))]

    def _tell(self, i: int, message: object) -> None:
        pipe = self.children[i].stdin
        assert pipe is not None
        try:
            pickle.dump(message, pipe)
            pipe.flush()
        except OSError:
            raise self._died(i) from None

    def _answer(self, i: int) -> Any:
        pipe = self.children[i].stdout
        assert pipe is not None
        try:
            found = pickle.load(pipe)
        except (EOFError, pickle.UnpicklingError):
            raise self._died(i) from None
        if isinstance(found, FewbitError):
            raise found
        return found

    def _died(self, i: int) -> EngineError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.children[i].wait(PATIENCE)
        self.errors[i].seek(0)
        said = self.errors[i].read().decode("utf-8", "replace").strip().splitlines() or ["no word"]
        code = self.children[i].returncode
        return EngineError(f"instance {i + 1} of {len(self.children)} died with code {code}: {said[-1]}")


def usable_cores() -> list[int]:
    """Cores that this process may use, in order.

    Raises:
        UsageError: this system does not let a process choose its cores.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError(f"instances are pinned to cores, which {sys.platform} does not let a process do; Linux does")
    return sorted(os.sched_getaffinity(0))


@contextlib.contextmanager
def started(
    networks: Mapping[str, Model], feeds: Mapping[int, Feeds], engine: str, cores: Cores, **options: Any
) -> Iterator[Instances]:
    """Start an instance on each share of the cores, with all networks loaded; they end with the block, or an error.

    Raises:
        EngineError: an instance failed or died.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fewbit-")))
        files = {name: folder / f"{i}.onnx" for i, name in enumerate(networks)}
        for name, model in networks.items():
            model.save(files[name])
        children, errors = list[subprocess.Popen[bytes]](), list[BinaryIO]()
        stack.callback(_end, children)
        for _ in cores:
            errors.append(stack.enter_context(tempfile.TemporaryFile()))
            children.append(_child(errors[-1]))
        found = Instances(children, errors)
        for i, share in enumerate(cores):
            found._tell(i, Job(files, feeds, engine, options | {"threads": len(share)}, share))
        for i in range(len(cores)):
            found._answer(i)
        yield found


def _child(errors: BinaryIO) -> subprocess.Popen[bytes]:
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-P", "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask all to end, then wait; who does not heed that is killed."""
    for child in children:
        child.terminate()
    for child in children:
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):  # what nobody reads any more cannot be flushed
                assert pipe is not None
                pipe.close()
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def serve() -> None:
    """Be an instance: the job comes first, then stint after stint, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent as well, and that ends its children
    words, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an engine prints must not get between the answers

    def answer(found: object) -> None:
        pickle.dump(found, answers)
        answers.flush()

    try:
        job: Job = pickle.load(words)
        os.sched_setaffinity(0, job.cores)  # before the engine counts cores
        runners = _opened(job)
        answer("ready")
        while True:
            network, batch, runs, seconds, moment = pickle.load(words)
            answer(_stint(runners[network], job.feeds[batch], runs, seconds, moment))
    except (EOFError, BrokenPipeError):
        return
    except FewbitError as e:
        answer(EngineError(str(e)))


def _opened(job: Job) -> dict[str, Runner]:
    from fewbit.engines import open_runner
    from fewbit.graph.files import load_model

    models = {name: load_model(file, allow_quantized=True) for name, file in job.networks.items()}
    return {name: open_runner(job.engine, model, **job.options) for name, model in models.items()}


def _stint(runner: Runner, feeds: Feeds, runs: int, seconds: float, moment: float) -> Stint:
    time.sleep(max(0.0, moment - time.monotonic()))
    took: list[float] = []
    start = before = time.perf_counter()
    while len(took) < runs or (not runs and (before - start < seconds or not took)):
        runner.run(feeds)
        now = time.perf_counter()
        took.append(now - before)
        before = now
    return Stint(len(took), before - start, median(took) * 1e3)
