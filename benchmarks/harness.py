"""How every data benchmark measures: side by side, on the same cores, in processes of their own, medians of several.

- ``Worker`` starts a measured process (see ``worker.py``), pinned to the same cores as every other, under a memory cap.
- ``alternate`` runs the contestants in turn, so that a slow minute of the machine hits them alike.
- ``Figure`` is one line of a result file; ``write_results`` writes or updates the file.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import queue
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
CORES = 2
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
"""Variables that say how many threads a process computes with."""
MEMORY_CAP = 10 << 30
"""Address space that a peer may take which might otherwise take all memory, in bytes."""
STEP_LIMIT_S = 600.0


class StepFailed(RuntimeError):  # noqa: N818  # a result of a contest more often than an error
    """A step raised, ran out of memory or time; the text says which."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured figure. ``ratio`` is ``value / baseline``; ``note`` says how to read it."""

    value: float
    unit: str
    baseline: float | None = None
    baseline_name: str = ""
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The figure as result files hold it."""
        ratio = None if not self.baseline else _rounded(self.value / self.baseline)
        entry = asdict(self) | {"value": _rounded(self.value), "ratio": ratio}
        entry["baseline"] = None if self.baseline is None else _rounded(self.baseline)
        entry["note"] = entry.pop("note")
        return entry


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The rounds of one contestant: seconds and what was returned of each, and the peak memory of all in MB."""

    rounds: tuple[float, ...]
    peak_mb: float
    values: tuple[Any, ...]

    @property
    def value(self) -> Any:
        """What the last round returned."""
        return self.values[-1]

    @property
    def median(self) -> float:
        """Median of the rounds, in seconds."""
        return statistics.median(self.rounds)

    def __str__(self) -> str:
        spread = f" ({min(self.rounds):.3g} to {max(self.rounds):.3g})" if len(self.rounds) > 1 else ""
        return f"{self.median:.3g} s{spread}, {self.peak_mb:,.0f} MB"


class Worker:
    """A measured process; use as a context manager, call :meth:`run` with a step's name and arguments."""

    def __init__(
        self,
        module: str,
        *,
        python: Path | None = None,
        memory_cap: int | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self._log = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        cores = sorted(os.sched_getaffinity(0))[:CORES] if hasattr(os, "sched_getaffinity") else None
        limits = dict.fromkeys(THREADS, str(CORES))

        def restrict() -> None:
            if cores:
                os.sched_setaffinity(0, cores)
            if memory_cap:
                resource.setrlimit(resource.RLIMIT_AS, (memory_cap, memory_cap))

        self._process = subprocess.Popen(
            [str(python or sys.executable), "-m", module],
            cwd=ROOT,
            env={**os.environ, **limits, "PYTHONPATH": _path(python), **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            preexec_fn=restrict,  # no threads are alive yet that could hold a lock
        )
        self.name = module
        self._replies: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, step: str, *, limit_s: float = STEP_LIMIT_S, **arguments: Any) -> dict[str, Any]:
        """Run one step and return its reply.

        Raises:
            StepFailed: it raised, the process died, or it took longer than ``limit_s`` (the process is killed then).
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"step": step, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._replies.get(timeout=limit_s)
        except queue.Empty:
            self._process.kill()
            raise StepFailed(f"{step} did not finish within {limit_s:.0f} s") from None
        except OSError:
            line = ""
        if not line:
            raise StepFailed(f"{step} ended its process (exit status {self._process.wait()}): {self._last_words()}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise StepFailed(f"{step}: {reply['error']}")
        return reply

    def close(self) -> None:
        """End the process."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._replies.put(line)
        self._replies.put("")

    def _last_words(self) -> str:
        self._log.seek(0)
        return self._log.read()[-1500:]


def alternate(contestants: Mapping[str, Callable[[], Mapping[str, Any]]], rounds: int) -> dict[str, Measured]:
    """Run the contestants in turn, ``rounds`` times, in changing order; each returns a worker's reply."""
    replies: dict[str, list[Mapping[str, Any]]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            replies[name].append(contestants[name]())
    measured = {
        name: Measured(
            rounds=tuple(reply["seconds"] for reply in each),
            peak_mb=max(reply["peak_mb"] for reply in each),
            values=tuple(reply["value"] for reply in each),
        )
        for name, each in replies.items()
    }
    for name, result in measured.items():
        say(f"  {name}: {result}")
    return measured


def times_faster(ours: Measured, theirs: Measured, peer: str, note: str) -> Figure:
    """How many times faster ours is than the peer: the ratio of the medians, above 1 where ours is faster."""
    return Figure(
        value=theirs.median / ours.median,
        unit="times faster",
        baseline=1.0,
        baseline_name=f"{peer}: {theirs.median:.3g} s, ours {ours.median:.3g} s",
        note=f"bigger is better. {note} Medians; ours {ours}; {peer} {theirs}.",
    )


def say(text: str) -> None:
    """One line of progress."""
    print(f"[{dt.datetime.now():%H:%M:%S}] {text}", flush=True)


def write_results(
    name: str,
    figures: Mapping[str, Figure],
    *,
    versions: Sequence[str],
    peers: Mapping[str, str],
    target: Path | None = None,
    hardware: Mapping[str, str] | None = None,
) -> Path:
    """Write ``results/NAME.json``; figures that were not measured now keep what the file said of them.

    ``hardware`` is for machines without the libraries that looking at the machine takes.
    """
    if hardware is None:
        from deepseek.inference.hardware import examine

        hardware = {f.subject: f.detail for f in examine() if f.subject in {"processor", "memory", "GPU"}}
    target = target or result_file(name)
    before = json.loads(target.read_text(encoding="utf-8")) if target.is_file() else {}
    document = {
        "name": name,
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "command": command(name),
        "hardware": dict(hardware),
        "versions": before.get("versions", {})
        | {"python": sys.version.split()[0]}
        | {library: _version(library) for library in versions}
        | dict(peers),
        "figures": before.get("figures", {}) | {key: figure.as_dict() for key, figure in figures.items()},
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return target


def result_file(name: str) -> Path:
    """Where the figures of a benchmark go if nothing else is said."""
    return RESULTS / f"{name}.json"


def command(name: str) -> str:
    """The command that measures this again: all parts, also when only some were run to bring a file up to
    date, and without the folder that finished work was kept in."""
    given = sys.argv[1:]
    left_out = ("--only", "--workspace", "--jobs")  # parts, and a folder of this machine
    arguments = shlex.join(
        a for before, a in zip(["", *given], given, strict=False) if not {before, a.split("=")[0]} & set(left_out)
    )
    return f"make bench NAME={name}" + (f' ARGS="{arguments}"' if arguments else "")


def commit() -> str:
    """The commit that is checked out."""
    return _git("rev-parse", "HEAD")


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed, run from source"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _path(python: Path | None) -> str:
    """The import path of a measured process: a peer sees the benchmarks, ours also the package."""
    if python:
        return str(ROOT)
    given = filter(None, [os.environ.get("PYTHONPATH")])  # libraries may be there
    return os.pathsep.join([str(ROOT / "src"), str(ROOT), *given])


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def in_turn(names: Sequence[str], turn: int) -> list[str]:
    """Contestants in the order of a turn: each begins one in as many turns as there are contestants."""
    shift = turn % len(names)
    return [*names[shift:], *names[:shift]]


def passes_in(visit_s: float, once_s: float, most: int) -> int:
    """How often something that takes ``once_s`` seconds runs in a visit of ``visit_s``: from 1 to ``most`` times."""
    return max(1, min(most, round(visit_s / once_s)))
