"""Median times of repeated runs, and a benchmark's result as JSON, with the machine it was measured on."""

import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")  # counts the tensors, at no cost in time
import aigan_tf  # noqa: F401 isort: skip (before TensorFlow: it sets oneDNN)
import keras
import numpy as np
import tensorflow as tf

from aigan_tf.files import write_json
from aigan_tf.provenance import device_name, processor_name


def median_seconds(run: Callable[[], object], repetitions: int, warm_up: int = 2) -> float:
    """Returns the median time of `run()`, which must block on its result, after some calls that are not counted."""
    times = []
    for _ in range(repetitions + warm_up):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return float(np.median(times[warm_up:]))


def in_its_own_process(*arguments: str, environment: Mapping[str, str] | None = None):
    """Returns what this script prints last with these arguments, from JSON."""
    ran = subprocess.run(
        [sys.executable, sys.argv[0], *arguments],
        env=os.environ | (environment or {}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout.splitlines()[-1])


def machine() -> dict[str, str]:
    """Returns what a time depends on: the device, the processor's name, and the versions."""
    return {
        "device": device_name(),
        "processor": processor_name(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "python": platform.python_version(),
    }


def save(result: dict, output: str) -> None:
    """Writes a result with the machine's description to `output`; the empty string writes nothing."""
    if output:
        given = [argument for argument in sys.argv if not argument.startswith("--data_dir")]  # a path of this machine
        command = " ".join(["python", *given])
        write_json(pathlib.Path(output), {"machine": machine(), "command": command, **result})
