"""Whole runs as processes of their own, for tests that kill them; and what such a run left.

Importing JAX and all else takes longer than a tiny run. So a `Starter` is one process that has
imported everything, started nothing of JAX, and forks a process for every run: the same program
with its own process id, signals, files and exit code. It is this file, run as a script.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import ml_collections
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
_VARYING = ("time", "train/images_per_s")


# PR-Net of width 4 to 16 on 8 + 4 + 3 phantom slices at 32x32, two steps an epoch.
_TINY = {
    "model.widths": (4, 8, 16),
    "model.heads": 2,
    "dataset.options.size": 64,
    "dataset.options.num_slices": (8, 4, 3),
    "dataset.image_size": 32,
    "batch_size": 4,
    "eval_batch_size": 4,
    "num_epochs": 2,
    "warmup_epochs": 0.5,
    "log_every_steps": 1,
}


def tiny_fields(records: str | os.PathLike, **fields: Any) -> dict[str, Any]:
    """The fields of the tests' tiny run that differ from configs/prnet.py:quick.

    Args:
        records: the folder of the prepared records.
        fields: replace or add to them; "__" stands for ".".
    """
    changed = {name.replace("__", "."): value for name, value in fields.items()}
    return _TINY | {"dataset.data_dir": str(records)} | changed


def tiny_config(records: str | os.PathLike, **fields: Any) -> ml_collections.ConfigDict:
    """The config of the tiny run; arguments as for `tiny_fields`."""
    from prnet_jax.config import make_config

    config = make_config("prnet", "quick")
    config.update_from_flattened_dict(tiny_fields(records, **fields))
    return config


def tiny_flags(workdir: str | os.PathLike, records: str | os.PathLike, **fields: Any) -> list[str]:
    """The tiny run as flags of `python -m prnet_jax.main`; `fields` as for `tiny_fields`."""

    def text(value):
        return ",".join(map(str, value)) if isinstance(value, tuple) else value

    fields = tiny_fields(records, **fields)
    return [
        "--config=configs/prnet.py:quick",
        f"--workdir={workdir}",
        *(f"--config.{name}={text(value)}" for name, value in fields.items()),
    ]


def long_flags(workdir: str | os.PathLike, records: str | os.PathLike, **fields: Any) -> list[str]:
    """Flags of a tiny run that is long enough to interrupt: five epochs of four steps.

    Log lines are means over three steps and saves are three steps apart: neither keeps pace with
    the epochs. `fields` as for `tiny_fields`.
    """
    longer = {
        "batch_size": 2,
        "num_epochs": 5,
        "ema_decay": 0.9,
        "augment.noise": 0.05,
        "log_every_steps": 3,
        "save_every_steps": 3,
    }
    return tiny_flags(workdir, records, **(longer | fields))


@dataclasses.dataclass
class Process:
    """A started run. `folder` holds what it printed, `out` and `err`, and how it ended, `exit`."""

    pid: int
    folder: pathlib.Path

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text(encoding="utf-8", errors="replace")

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text(encoding="utf-8", errors="replace")

    @property
    def code(self) -> int | None:
        """The exit code, minus the signal that killed it, or None while it runs."""
        path = self.folder / "exit"
        return int(path.read_text()) if path.exists() else None

    def send(self, number: int) -> None:
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, timeout_s: float = 240.0) -> int:
        """The exit code; a run that does not end is killed, and fails the test."""
        if not until(lambda: self.code is not None, timeout_s):
            self.send(signal.SIGKILL)
            last = f"{self.out[-500:]}\n{self.err[-2000:]}"
            raise AssertionError(f"still running after {timeout_s} s:\n{last}")
        return self.code


class Starter:
    """Starts runs in processes of their own, see the top of the file. A context manager.

    Args:
        folder: for what they print.
        env: environment variables besides this process's.
    """

    def __init__(self, folder: pathlib.Path, **env: str):
        self._folder = folder
        self._number = 0
        self._lock = threading.Lock()
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            text=True,
        )
        self._started: list[Process] = []

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        for process in self._started:
            process.send(signal.SIGKILL)
        self._server.stdin.close()
        self._server.wait(60)

    def start(self, argv: list[str]) -> Process:
        """Like `python -m prnet_jax.main ARGV...` from the repository's root."""
        with self._lock:
            self._number += 1
            folder = self._folder / f"process_{self._server.pid}_{self._number}"
            folder.mkdir(parents=True)
            for name in ("out", "err"):
                (folder / name).touch()
            self._server.stdin.write(json.dumps([argv, str(folder)]) + "\n")
            self._server.stdin.flush()
        if not until((folder / "pid").exists, 120.0):
            raise AssertionError("the process that starts runs does not answer")
        process = Process(int((folder / "pid").read_text()), folder)
        self._started.append(process)
        return process

    def finish(self, argv: list[str]) -> Process:
        """Starts, waits, and expects exit code 0."""
        process = self.start(argv)
        assert process.wait() == 0, f"exit code {process.code}\n{process.err[-2000:]}"
        return process


def until(holds: Callable[[], bool], timeout_s: float = 120.0) -> bool:
    """Waits for something, asking hundreds of times a second; whether it came to be."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.003)
    return False


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def steps_in(folder: pathlib.Path) -> list[int]:
    """The steps of the committed checkpoints in `folder`."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(int(name) for name in os.listdir(folder) if name.isdigit())
    return []


def newest_step(workdir: pathlib.Path) -> int:
    """The newest committed checkpoint's step; 0 where there is none."""
    return max(steps_in(workdir / "checkpoints") + steps_in(workdir / "interim"), default=0)


def metrics_lines(workdir: pathlib.Path) -> list[dict]:
    """The whole lines of metrics.jsonl, without what two equal runs differ in."""
    lines = []
    with contextlib.suppress(FileNotFoundError):
        for text in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                line = json.loads(text)
                lines.append({k: v for k, v in line.items() if k not in _VARYING})
    return lines


def _leaves(tree, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(tree, dict):
        for name, branch in tree.items():
            yield from _leaves(branch, f"{path}/{name}")
    elif isinstance(tree, (list, tuple)):
        for name, branch in enumerate(tree):
            yield from _leaves(branch, f"{path}/{name}")
    elif tree is not None:
        yield path, np.asarray(tree)


def arrays_of(checkpoint: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array in a checkpoint's folder, by name, read by Orbax alone."""
    import jax
    import orbax.checkpoint as ocp

    path = (checkpoint / "state").absolute()
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        restored = checkpointer.restore(path, ocp.args.PyTreeRestore(restore_args=as_numpy))
    return dict(_leaves(restored))


def clock_of(checkpoint: pathlib.Path) -> dict:
    """The clock of a checkpoint without the time."""
    clock = json.loads((checkpoint / "clock" / "metadata").read_text())
    return {name: value for name, value in clock.items() if name != "train_s"}


def what_is_left(workdir: pathlib.Path) -> dict:
    """All that two equal runs leave alike."""
    parent = workdir / "checkpoints"
    folders = {f"checkpoints/{step}": parent / str(step) for step in steps_in(parent)}
    summary = json.loads((workdir / "test" / "summary.json").read_text())
    return {
        "checkpoints": list(folders),
        "arrays": {name: arrays_of(folder) for name, folder in folders.items()},
        "clocks": {name: clock_of(folder) for name, folder in folders.items()},
        "metrics": metrics_lines(workdir),
        "summary": {k: v for k, v in summary.items() if k != "provenance"},
        "per_image": (workdir / "test" / "per_image.csv").read_bytes(),
    }


def differences(found: dict, expected: dict) -> list[str]:
    """What of `what_is_left` is not the same bit by bit; empty where all is."""
    differ = [name for name in expected if name != "arrays" and found[name] != expected[name]]
    for folder, arrays in expected["arrays"].items():
        others = found["arrays"].get(folder, {})
        if others.keys() != arrays.keys():
            differ.append(f"{folder}: other arrays")
            continue
        for name, array in arrays.items():
            same = others[name].dtype == array.dtype and others[name].shape == array.shape
            if not same or others[name].tobytes() != array.tobytes():
                differ.append(f"{folder}: {name}")
    return differ


def _serve() -> None:
    """Forks a run for every line on standard input."""
    import grain  # noqa: F401
    import ml_collections.config_flags  # noqa: F401

    import prnet_jax.train  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    for line in iter(sys.stdin.readline, ""):
        argv, folder = json.loads(line)
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if pid := os.fork():
            _write_whole(f"{folder}/pid", pid)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            _write_whole(f"{folder}/exit", status)
            os._exit(0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY), descriptor)
        sys.stdout.reconfigure(line_buffering=True)
        sys.argv = ["prnet_jax.main", *argv]
        runpy.run_module("prnet_jax.main", run_name="__main__", alter_sys=True)
        sys.exit()


def _write_whole(path: str, number: int) -> None:
    pathlib.Path(path + ".new").write_text(str(number))
    os.replace(path + ".new", path)


if __name__ == "__main__":
    _serve()
