"""Checks this machine and says what to do: python -m prnet_jax.doctor

python -m prnet_jax.doctor
python -m prnet_jax.doctor --json

Works where packages are missing: every check imports what it needs itself.
"""

import argparse
import dataclasses
import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator

from prnet_jax import __version__, compiler
from prnet_jax.commands import FAILED, Help, examples, interpreter, one_line, run_command

OK, ADVICE, WRONG = "ok", "advice", "wrong"

_OLDEST_PYTHON = (3, 11)
_GIB = 2**30
_LEAST_BYTES, _FEW_BYTES = _GIB, 5 * _GIB  # free; the three checkpoints of PR-Net take 1.4 GiB
_EXTRAS = {  # packages that may be absent: their extra, and what they are for
    "nibabel": ("nifti", "NIfTI files"),
    "pydicom": ("dicom", "DICOM files"),
    "highdicom": ("dicomseg", "DICOM segmentations"),
    "huggingface_hub": ("hub", "weights of the Hugging Face Hub"),
    "torch": ("torch", "comparing layers with PyTorch"),
}
_ACCELERATORS = (
    ("/dev/nvidia0", "an NVIDIA GPU", "cuda"),
    ("/dev/accel0", "a TPU", "tpu"),
    ("/dev/vfio/0", "a TPU", "tpu"),
)

# What a check returns: the state, what was found, and what to do about it ("": nothing).
_Result = tuple[str, str, str]


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: its name.
        state: "ok", "advice" (works, but could be better) or "wrong".
        found: one line.
        advice: what to do, one line; empty where nothing needs doing.
    """

    check: str
    state: str
    found: str
    advice: str


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 if something is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m prnet_jax.doctor",
        description="Checks interpreter, packages, devices, compiler, cache, data and disk, and "
        "says in a line what to do. Exit code 1 if something is wrong. Put what it prints into a "
        "report of a bug.",
        epilog=examples(__doc__),
        formatter_class=Help,
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    as_json = parser.parse_args(argv).json
    return run_command(lambda: _report(as_json))


def _report(as_json: bool) -> int:
    findings = []
    for found in examine():
        findings.append(found)
        if not as_json:
            print(_lines(found), flush=True)
    wrong = sum(found.state == WRONG for found in findings)
    if as_json:
        rows = [dataclasses.asdict(found) for found in findings]
        print(json.dumps({"version": __version__, "wrong": wrong, "checks": rows}, indent=1))
    else:
        print(f"\n{wrong} of {len(findings)} checks failed." if wrong else "\nNothing is wrong.")
    return FAILED if wrong else 0


def examine() -> Iterator[Finding]:
    """All checks, one after another. An error inside one is what it found."""
    for name, check in _CHECKS.items():
        try:
            yield Finding(name, *check())
        except Exception as error:
            yield Finding(name, WRONG, f"{type(error).__name__}: {one_line(error)}"[:400], "")


def _lines(found: Finding) -> str:
    text = f"{found.state:<7} {found.check:<9} {found.found}"
    return text + (f"\n{'':17} -> {found.advice}" if found.advice else "")


def _python() -> _Result:
    found = f"prnet_jax {__version__}, Python {platform.python_version()} ({sys.executable}), "
    found += f"{platform.system()} {platform.machine()}"
    if sys.version_info < _OLDEST_PYTHON:
        return WRONG, found, "install Python 3.11 or newer"
    if platform.system() == "Windows":
        return WRONG, found, "array_record has no wheel for Windows: work in WSL"
    return OK, found, ""


def _packages() -> _Result:
    """Every requirement: there, new enough, and not a version that is known to be bad."""
    bad, found = {}, []
    for name, bounds in _requirements():
        version = _version(name)
        found.append(f"{name} {version}")
        if version is None:
            bad[f"{name} is missing"] = f"{name}{bounds}"
            continue
        for operator, bound in re.findall(r"(>=|!=)\s*([\w.]+)", bounds):
            if operator == ">=" and _numbers(version) < _numbers(bound):
                bad[f"{name} {version} is older than {bound}"] = f"{name}{bounds}"
            if operator == "!=" and version == bound:
                bad[f"{name} {version} is known to be bad"] = f"{name}{bounds}"
    if bad:
        return WRONG, ", ".join(bad), f"{interpreter()} -m pip install {shlex.join(bad.values())}"
    return OK, ", ".join(found), ""


def _extras() -> _Result:
    """What may be installed too."""
    absent = [package for package in _EXTRAS if _version(package) is None]
    there = [f"{package} {_version(package)}" for package in _EXTRAS if package not in absent]
    found = f"{', '.join(there) or 'none'}; absent: {', '.join(absent) or 'none'}"
    uses = ", ".join("'prnet_jax[{}]' for {}".format(*_EXTRAS[package]) for package in absent)
    return OK, found, f"pip install, if you need them: {uses}" if uses else ""


def _imports() -> _Result:
    """What training, evaluation and prediction import, which shows libraries that do not fit."""
    names = [f"prnet_jax.{name}" for name in ("train", "evaluate.run", "predict.run")]
    for name in names:
        importlib.import_module(name)
    return OK, ", ".join(names), ""


def _devices() -> _Result:
    """What JAX computes on, and how much memory it has."""
    compiler.disable_ynn()
    import jax

    devices = jax.local_devices()
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu:
        memory = f"{os.cpu_count()} cores, {_ram_bytes() / _GIB:.0f} GiB of memory"
    else:
        limit = (devices[0].memory_stats() or {}).get("bytes_limit")
        memory = f"{limit / _GIB:.0f} GiB of memory each" if limit else "memory not known"
    flags = [f"{k}={os.environ[k]}" for k in ("JAX_PLATFORMS", "XLA_FLAGS") if k in os.environ]
    found = ", ".join([f"{len(devices)} x {devices[0].device_kind}", memory, *flags])
    if not on_cpu:
        return OK, found, ""
    for path, what, extra in _ACCELERATORS:
        if pathlib.Path(path).exists() and os.environ.get("JAX_PLATFORMS") != "cpu":
            return ADVICE, f"{found}; {what} is not used", f"pip install 'prnet_jax[{extra}]'"
    return ADVICE, found, "no accelerator: train quick or small variants, such as prnet:quick"


def _compiler() -> _Result:
    import jax

    compiler.self_check()
    if jax.default_backend() != "cpu":
        return OK, "the known miscompile is one of CPUs: not looked for here", ""
    return OK, f"jaxlib {_version('jaxlib')} computes rightly on this CPU", ""


def _cache() -> _Result:
    """Compiled programs."""
    sizes = [path.stat().st_size for path in _cache_dir().rglob("*") if path.is_file()]
    found = f"{len(sizes)} files, {sum(sizes) / 2**20:.0f} MiB, in {_cache_dir()}"
    return OK, found, "" if sizes else "nothing to do: the first run compiles, later ones need not"


def _data() -> _Result:
    """Prepared records, and the folder of downloads made by hand."""
    root = _records_dir()
    prepared = [path.relative_to(root).parts[0] for path in root.glob("*/*/*/dataset_info.json")]
    counts = [f"{prepared.count(name)} of {name}" for name in sorted(set(prepared))]
    found = f"records in {root}: {', '.join(counts) or 'none'}"
    manual = os.environ.get("PRNET_MANUAL_DIR")
    if manual is None:
        found += "; PRNET_MANUAL_DIR is not set"
    elif not pathlib.Path(manual).expanduser().is_dir():
        found += f"; PRNET_MANUAL_DIR={manual} is not a folder"
        return WRONG, found, "correct PRNET_MANUAL_DIR or unset it"
    else:
        found += f"; downloads in {manual}"
    return OK, found, "" if prepared else "nothing to do: a first run makes its phantom itself"


def _disk() -> _Result:
    """Where runs, records, compiled programs and temporary files go."""
    free = {}
    for place in (pathlib.Path(), _records_dir(), _cache_dir(), tempfile.gettempdir()):
        place = pathlib.Path(place).absolute()
        there = next(path for path in (place, *place.parents) if path.exists())
        if not os.access(there, os.W_OK):
            return WRONG, f"{there} cannot be written to", f"allow it, or use another than {place}"
        free[place] = shutil.disk_usage(there).free
    found = ", ".join(f"{size / _GIB:.0f} GiB at {place}" for place, size in free.items())
    if min(free.values()) < _FEW_BYTES:
        state = WRONG if min(free.values()) < _LEAST_BYTES else ADVICE
        return state, f"free: {found}", "make room: a run of PR-Net takes about 2 GiB"
    return OK, f"free: {found}", ""


_CHECKS: dict[str, Callable[[], _Result]] = {
    "python": _python,
    "packages": _packages,
    "extras": _extras,
    "imports": _imports,
    "devices": _devices,
    "compiler": _compiler,
    "cache": _cache,
    "data": _data,
    "disk": _disk,
}


def _requirements() -> list[tuple[str, str]]:
    """(name, bounds) of what the package needs: as installed, or as a checkout's setup.cfg says."""
    try:
        lines = importlib.metadata.requires("prnet_jax") or []
    except importlib.metadata.PackageNotFoundError:
        text = (pathlib.Path(__file__).parents[1] / "setup.cfg").read_text("utf-8")
        lines = text.split("install_requires =\n")[1].split("\n\n")[0].splitlines()
    text = "\n".join(line.strip() for line in lines if "extra ==" not in line)
    return re.findall(r"^([\w.-]+) *(.*)$", text, re.MULTILINE)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:4])


def _records_dir() -> pathlib.Path:
    return pathlib.Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _cache_dir() -> pathlib.Path:
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or "~/.cache/prnet_jax"
    return pathlib.Path(folder).expanduser()


def _ram_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


if __name__ == "__main__":
    sys.exit(main())
