"""The memory that something takes at its greatest."""

import ctypes
import pathlib
from collections.abc import Callable


def peak_mib(run: Callable[[], object]) -> float:
    """Returns by how many MiB the process's resident memory grows, at its greatest, while `run()` runs (Linux only).

    Call it after a warm-up: a first call also makes graphs and threads.
    """
    ctypes.CDLL(None).malloc_trim(0)  # what earlier runs have freed is given back, so that this one must ask for it
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def _status(name: str) -> float:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return int(dict(line.split(":", 1) for line in lines)[name].split()[0]) / 1024
