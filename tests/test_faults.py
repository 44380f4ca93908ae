"""Runs that are killed at random moments, or meet a full disk, end like an undisturbed one.

`pytest -s tests/test_faults.py` prints the table.
"""

import concurrent.futures
import dataclasses
import random
import re
import signal
import subprocess
import time

import pytest

from tests import programs
from tests.programs import Starter
from tests.runs import differences, long_flags, metrics_lines, newest_step, steps_in, what_is_left

STEPS_PER_EPOCH, STEPS = 4, 20
KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
# Where runs are killed; the order and the moments within are random.
PLAN = [
    *[("start-up", number) for number in (KILL, TERM, KILL)],
    *[("train", number) for number in (KILL, TERM, INT, KILL, TERM)],
    *[("in a save", number) for number in (KILL, TERM, KILL, KILL, INT, KILL)],
    *[("before the seal", number) for number in (KILL, KILL, TERM)],
    *[("validation", number) for number in (KILL, TERM, KILL, INT)],
    *[("test", number) for number in (KILL, TERM, KILL, TERM, INT, KILL)],
]
AT_ONCE = 2  # runs at the same time


@dataclasses.dataclass
class Killed:
    """One kill and what became of it."""

    victim: int
    phase: str
    signal: int
    logged: int  # the last step in metrics.jsonl
    committed: int  # the newest checkpoint after the process ended
    promised: int | None  # the step at which the process said that it stopped
    code: int
    found: int | None = None  # the step that the next start resumed after

    @property
    def lost(self) -> int:
        """Steps that are taken again, as far as anything tells of them."""
        return max(self.logged, self.committed) - self.found

    @property
    def as_expected(self) -> bool:
        if self.signal == KILL:
            ended = self.code == -KILL
        else:
            ended = self.code == 0 and self.promised in (None, self.found)
            if self.phase not in ("start-up", "test"):
                ended = ended and self.promised is not None and self.lost == 0
        return ended and self.found == self.committed

    def __str__(self) -> str:
        name = {KILL: "kill -9", TERM: "SIGTERM", INT: "Ctrl-C"}[self.signal]
        return (
            f"{self.victim:>6}  {self.phase:<16} {name:<8} {self.code:>4} {self.logged:>7} "
            f"{self.committed:>10} {self.found:>8} {self.lost:>5}  "
            f"{'yes' if self.as_expected else 'NO'}"
        )


HEADER = "victim  where            signal   exit  logged  committed  resumed  lost  as expected"


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    with Starter(tmp_path_factory.mktemp("faults")) as starter:
        yield starter


@pytest.fixture(scope="module")
def straight(starter, tmp_path_factory, records_dir):
    """What an undisturbed run leaves."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    starter.finish(long_flags(workdir, records_dir))
    expected = what_is_left(workdir)
    trained = [line["step"] for line in expected["metrics"] if "train/loss" in line]
    validated = [line["step"] for line in expected["metrics"] if "val/dsc" in line]
    assert trained == sorted({*range(3, STEPS + 1, 3), *range(4, STEPS + 1, 4)})
    assert validated == list(range(4, STEPS + 1, 4))
    return expected


@pytest.mark.slow
def test_a_run_killed_in_a_save_ends_like_an_undisturbed_one(
    starter, straight, tmp_path, records_dir
):
    plan = [("in a save", KILL)]
    for victim in range(20):  # a save is short: a busy machine may see none of a run's
        workdir = tmp_path / f"victim_{victim}"
        kills = _torment(starter, victim, workdir, records_dir, plan)
        assert all(kill.as_expected for kill in kills), "\n".join([HEADER, *map(str, kills)])
        assert differences(what_is_left(workdir), straight) == []
        if not plan:
            return
    raise AssertionError("no run was killed in a save")


@pytest.mark.slow
def test_a_run_killed_at_random_ends_like_an_undisturbed_one(
    starter, straight, tmp_path, records_dir
):
    """At least 25 kills of several victims, each of which completes in the end."""
    chance = random.Random(1)
    plans = [chance.sample(PLAN[i::AT_ONCE], len(PLAN[i::AT_ONCE])) for i in range(AT_ONCE)]

    def torment(number):
        """Victims one after the other, until the plan is done."""
        plan, results = plans[number], []
        while plan:
            victim = number + AT_ONCE * len(results)
            assert victim < 20, f"these never came: {plan}"
            workdir = tmp_path / f"victim_{victim}"
            kills = _torment(starter, victim, workdir, records_dir, plan)
            results.append((victim, kills, differences(what_is_left(workdir), straight)))
        return results

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        results = sorted(sum(pool.map(torment, range(AT_ONCE)), []))
    kills = [kill for _, found, _ in results for kill in found]
    print(f"\n{HEADER}", *kills, sep="\n")
    for victim, found, differ in results:
        print(
            f"victim {victim}: {len(found)} kills; checkpoints, metrics.jsonl, summary.json and "
            f"per_image.csv {'equal bit by bit' if not differ else f'DIFFER: {differ}'}"
        )
    print(f"{len(kills)} kills")
    assert all(differ == [] for _, _, differ in results)
    assert all(kill.as_expected for kill in kills)
    assert len(kills) == len(PLAN) >= 25


def _torment(starter, victim, workdir, records_dir, plan) -> list[Killed]:
    """Kills a run as planned until it completes; removes from `plan` what was done."""
    chance = random.Random(victim)
    kills: list[Killed] = []
    tried = set()
    while True:
        # The end of a run comes last; phases that this run has left behind are skipped.
        open_ones = [item for item in plan if item[0] not in tried]
        where, number = min(open_ones, key=lambda item: item[0] == "test", default=(None, None))
        process = starter.start(long_flags(workdir, records_dir))
        phase = _strike(process, workdir, where, number, chance) if where else None
        code = process.wait()
        resumed = resumed_after(process)
        if kills and kills[-1].found is None:
            said_so = resumed is not None or "train:" in process.err
            kills[-1].found = (resumed or 0) if said_so else None
        if phase is None:
            assert code == 0, f"{process.out}\n{process.err}"
            if where is None or where == "test":
                return kills
            tried.add(where)
            continue
        plan.remove((where, number))
        if "Stopped before the training began" in process.err:
            phase = "start-up"
        said = re.search(r"Stopped after step (\d+) of", process.err)
        kill = Killed(
            victim,
            phase,
            number,
            max((line["step"] for line in metrics_lines(workdir)), default=0),
            newest_step(workdir),
            int(said[1]) if said else None,
            code,
        )
        for before in kills:
            if before.found is None:  # this start was killed before it said where it resumed
                before.found = kill.committed
        kills.append(kill)


def resumed_after(process) -> int | None:
    found = re.search(r"Resuming after step (\d+) of", process.out)
    return int(found[1]) if found else None


def _strike(process, workdir, where, number, chance) -> str | None:
    """Sends the signal in the phase `where`; returns the phase hit, None if the run ended before.

    The run is suspended meanwhile, so that the moment is still there when the signal arrives.
    """
    log = workdir / "metrics.jsonl"
    folders = (workdir / "checkpoints", workdir / "interim")

    def begun():
        return "\nrun  " in process.out

    def unfinished():
        return any(any(folder.glob("*.orbax-checkpoint-tmp*")) for folder in folders)

    def without_seal():
        return {
            folder / str(step)
            for folder in folders
            for step in steps_in(folder)
            if not (folder / "seals" / f"{step}.json").exists()
        }

    before = without_seal()  # by earlier kills
    size = log.stat().st_size if log.exists() else 0

    def moved():
        return log.exists() and log.stat().st_size != size

    def in_validation():
        lines = metrics_lines(workdir)
        last = lines[-1] if lines else {"step": 1}
        return last["step"] % STEPS_PER_EPOCH == 0 and "val/dsc" not in last

    def wait(holds):
        programs.until(lambda: process.code is not None or holds())

    moment = {
        "in a save": unfinished,
        "before the seal": lambda: without_seal() - before,
        "validation": in_validation,
    }.get(where, lambda: True)
    if where == "start-up":
        time.sleep(chance.uniform(0.0, 3.0))
    else:
        wait(begun)
    if where == "train":
        wait(moved)  # so that there is something to lose
        time.sleep(chance.uniform(0.0, 0.3))
    elif where == "test":
        wait(lambda: "predict:" in process.err)
        time.sleep(chance.uniform(0.0, 1.5))
    if not process.hold(moment):
        return None
    if "\nnext:" in process.out:  # everything is done and printed
        process.go_on()
        return None
    if where == "start-up" and begun():
        where = "train"
    if any(line["step"] == STEPS and "val/dsc" in line for line in metrics_lines(workdir)):
        where = "test"  # or just before it: no training is left to stop
    process.send(number)
    process.go_on()
    return where


# ---- a full disk


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a new disk of so many KiB and returns its folder."""
    mounted = []

    def mount(size_kib):
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            pytest.skip(f"no disk can be mounted: {error}")
        if done.returncode:
            pytest.skip(f"no disk can be mounted: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path):
    """Takes all space that is left."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass


def ended_by_a_full_disk(process):
    """Expects exit code 1 and one line on it."""
    assert process.wait() == 1, process.err
    *others, last = (line for line in process.err.splitlines() if line)
    assert all(PROGRESS.match(line) for line in others), process.err
    assert last.startswith("error: ") and "make room" in last, process.err
    assert "No space left on device" in last or "does not fit on the disk" in last
    return last


PROGRESS = re.compile(r"(train|leakage|predict|score|overlays): ")


@pytest.mark.slow
def test_a_full_disk_ends_in_one_line_and_loses_nothing(
    starter, straight, tmp_path, records_dir, small_disk
):
    disk = small_disk(16 << 10)
    workdir = disk / "run"
    process = starter.start(long_flags(workdir, records_dir))
    assert process.hold(lambda: newest_step(workdir) >= 4)
    fill(disk / "others")
    process.go_on()
    print("\n" + ended_by_a_full_disk(process))
    stood = newest_step(workdir)
    assert 4 <= stood < STEPS
    assert not list(workdir.glob("*/*.orbax-checkpoint-tmp*"))
    # The disk is still full: the same error again, and nothing is lost.
    ended_by_a_full_disk(starter.start(long_flags(workdir, records_dir)))
    assert newest_step(workdir) >= stood
    (disk / "others").unlink()
    again = starter.finish(long_flags(workdir, records_dir))
    print(f"after room was made: resumed after step {resumed_after(again)}")
    assert resumed_after(again) >= stood
    assert "Damaged" not in again.out
    assert differences(what_is_left(workdir), straight) == []


@pytest.mark.slow
def test_no_room_for_a_line_of_metrics(starter, tmp_path, records_dir, small_disk):
    """metrics.jsonl on a disk of one page, the rest on another."""
    workdir, page = tmp_path / "run", small_disk(4)
    fields = {"log_every_steps": 1}
    starter.finish(long_flags(tmp_path / "straight", records_dir, **fields))
    process = starter.start(long_flags(workdir, records_dir, **fields))
    # Replaced before the first line is written.
    assert process.hold(lambda: "\nrun  " in process.out and not metrics_lines(workdir))
    process.send(KILL)
    process.wait()
    (workdir / "metrics.jsonl").unlink(missing_ok=True)
    (workdir / "metrics.jsonl").symlink_to(page / "metrics.jsonl")
    process = starter.start(long_flags(workdir, records_dir, **fields))
    print("\n" + ended_by_a_full_disk(process))
    stood = newest_step(workdir)
    assert stood >= 4
    # Now it fits: an ordinary file again.
    lines = (workdir / "metrics.jsonl").read_bytes()
    (workdir / "metrics.jsonl").unlink()
    (workdir / "metrics.jsonl").write_bytes(lines)
    again = starter.finish(long_flags(workdir, records_dir, **fields))
    assert resumed_after(again) == stood
    assert differences(what_is_left(workdir), what_is_left(tmp_path / "straight")) == []
