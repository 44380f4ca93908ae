"""The processor, and the memory and CPU time of processes, as Linux tells them."""

import contextlib
import os
import pathlib
import platform
import re
from typing import Any


def reset_peak() -> None:
    """Forgets this process's largest memory so far, such as that of compiling."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float | None:
    """The largest memory of this process in MiB, since `reset_peak`; the libraries count too."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s*(\d+) kB", pathlib.Path("/proc/self/status").read_text())
        return int(found[1]) / 1024
    return None


def peak_mib_of(device: Any) -> float | None:
    """The largest memory of a JAX device in MiB; of a CPU that of this process."""
    if device.platform == "cpu":
        return peak_mib()
    return (device.memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**20 or None


def cpu_s(pid: int) -> float | None:
    """Seconds of CPU time that all threads of a process have used."""
    with contextlib.suppress(OSError):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return None


def cpu_name() -> str:
    """The processor and its cores that this process may use: "AMD EPYC 7B13, 2 cores"."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
        name = found[1].strip() if found else name
    cores = os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()
    return f"{name}, {cores} cores"
