"""The memory that something takes at its greatest, beyond what is held before it. Call these after a warm-up."""

import ctypes
import pathlib
from collections.abc import Callable

MIB = 2**20


def tensors_mib(run: Callable[[], object]) -> float:
    """Returns the MiB of TensorFlow's tensors while `run()` runs, on the first GPU or else the processor.

    On a processor they are counted by TensorFlow's own pool, which `timing` switches on: what the process holds would
    not tell, since freed memory stays with it.
    """
    import tensorflow as tf

    device = "GPU:0" if tf.config.list_physical_devices("GPU") else "CPU:0"
    tf.config.experimental.reset_memory_stats(device)
    before = tf.config.experimental.get_memory_info(device)["current"]
    run()
    return (tf.config.experimental.get_memory_info(device)["peak"] - before) / MIB


def resident_mib(run: Callable[[], object]) -> float:
    """Returns by how many MiB the process grows while `run()` runs: for what gives freed memory back (Linux only)."""
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def _status(name: str) -> float:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return int(dict(line.split(":", 1) for line in lines)[name].split()[0]) * 1024 / MIB
