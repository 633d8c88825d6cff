"""Where a result comes from: versions, commit, processor, device."""

import contextlib
import os
import pathlib
import platform
import shlex
import subprocess
import sys


def processor_name() -> str:
    """Returns the processor's name on Linux, its kind elsewhere."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def device_name() -> str:
    """Returns the GPUs, or "CPU" and its number of cores."""
    import tensorflow as tf  # here: a run's folder is checked before TensorFlow is there

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return ", ".join(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus)
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )  # Linux: those this process may use
    return f"CPU, {cores} core{'s' if cores > 1 else ''}"


_PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "numpy")


def package_versions(*others: str) -> dict:
    """Returns versions by package, also of `others`; None if installed under another name, such as tensorflow-cpu."""
    from importlib import metadata  # here: with its parser of e-mails it takes a third of a command's start

    versions = dict.fromkeys((*_PACKAGES, *others))
    for name in versions:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def commit() -> str | None:
    """Returns the git commit of this code, or None outside a checkout."""
    root = pathlib.Path(__file__).parents[1]
    if not (root / ".git").exists():  # installed, perhaps below the checkout of another project
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def command() -> str | None:
    """Returns the command that runs, with paths cut to their last part; None if it is not one of this project's."""
    program = pathlib.Path(sys.argv[0])
    if program.name in ("train.py", "evaluate.py"):
        name = f"python {program.name}"
    elif program.name == "__main__.py" and program.parent.name == "aigan_tf":
        name = "python -m aigan_tf"
    elif program.name.startswith("aigan-"):
        name = program.name
    else:
        return None
    return " ".join([name, *(shlex.quote(without_folders(argument)) for argument in sys.argv[1:])])


def without_folders(argument: str) -> str:
    """Returns an argument or path with what exists, or lies in a folder that does, cut to its name.

    A budget such as 8/255 is not a path.
    """
    flag, equals, values = argument.rpartition("=")

    def cut(value):
        path = pathlib.Path(value).expanduser()
        return path.name if "/" in value and (path.is_absolute() or path.parent.is_dir()) else value

    return flag + equals + ",".join(map(cut, values.split(",")))
