"""A full disk or a file that grows too large: one error, and nothing lost or left over."""

import contextlib
import pathlib
import shutil
import subprocess
import sys
from types import SimpleNamespace

import keras
import pytest
import tensorflow as tf
from kill_and_resume import SETTINGS, differences, state

from aigan_tf import files
from aigan_tf.engine.checkpoints import Checkpoint
from aigan_tf.errors import InputError
from aigan_tf.evaluation.report_files import write_report
from aigan_tf.method.networks import Generator
from aigan_tf.serving.export import ServedGenerator, export_generator
from aigan_tf.training.generator import save_generator
from aigan_tf.workdir import Workdir

resource = pytest.importorskip("resource", reason="this system limits no file's size")
ROOT = pathlib.Path(__file__).parents[1]


def contents(folder):
    """The files below a folder by name, hidden ones included, without locks."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@contextlib.contextmanager
def largest_file(size):
    """Limits the files of this process to `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def tiny_disk(folder, kibibytes):
    """Mounts a disk of this size at a new folder; skips the test if that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a tmpfs may not be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def generator():
    """A generator whose weights take 5 MB."""
    keras.utils.set_random_seed(0)
    made = Generator(10, 1, width=64, num_blocks=1, embedding_dim=8)
    made(tf.zeros((1, 8, 8, 1)), tf.zeros((1,), tf.int32))
    assert made.count_params() > 1_000_000
    return made


def write_checkpoint(run, generator):
    with Workdir(run).locked():
        checkpoint = Checkpoint(run / "checkpoints" / "aigan", generator=generator)
        checkpoint.steps_done = 1
        checkpoint.on_epoch_end(0)


def write_keras(run, generator):
    with files.atomic_file(run / "classifier.keras") as temporary:
        keras.Sequential([keras.Input((1000,)), keras.layers.Dense(1200)]).save(temporary)


LONG = "1" * 5_000_000
WRITES = {
    "checkpoint": write_checkpoint,
    "weights": lambda run, generator: save_generator(
        SimpleNamespace(generator=generator), run / "generator.weights.h5"
    ),
    "keras": write_keras,
    "export": lambda run, generator: export_generator(
        run / "generator", ServedGenerator(generator, (8, 8, 1), tuple("0123456789"), 0.3, targeted=True), {}
    ),
    "report": lambda run, _: write_report(
        run / "evaluation", None, {"report.json": b"{}", "report.html": LONG.encode()}
    ),
}
each_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())


@each_write
def test_full_disk_is_one_error_and_leaves_nothing(write, generator, tmp_path):
    # TensorFlow removes the unfinished file, after which this disk has room for a megabyte.
    with tiny_disk(tmp_path / "disk", 2500):
        with pytest.raises(InputError, match=r"cannot be written .*expected room"):
            write(tmp_path / "disk" / "run", generator)
        assert not contents(tmp_path / "disk")


@each_write
def test_file_that_grows_too_large_is_one_error_and_keeps_what_was_there(write, generator, tmp_path):
    def fails():  # the small parts of a report fit, its page does not
        with pytest.raises(InputError, match=r"cannot be written|is not empty"), largest_file(15_000):
            write(tmp_path, generator)

    fails()
    assert not contents(tmp_path)
    write(tmp_path, generator)
    before = contents(tmp_path)
    assert before
    fails()
    assert contents(tmp_path) == before
    Workdir(tmp_path).verify(tmp_path / "generator.weights.h5")


def train(folder, size=None):
    """Runs train.py, which may write files of at most `size` bytes; returns its status and output."""
    limit = size and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
    command = [sys.executable, "train.py", f"--workdir={folder}", *SETTINGS]
    return subprocess.run(command, cwd=ROOT, timeout=280, preexec_fn=limit, capture_output=True, text=True)


@pytest.mark.long
def test_training_continues_once_there_is_room(tmp_path):
    finished, folder = tmp_path / "finished", tmp_path / "run"
    assert train(finished).returncode == 0
    shutil.copytree(finished, folder)
    for name in ("checkpoints/aigan", "logs", "generator"):
        shutil.rmtree(folder / name)
    for name in ("metrics.csv", "generator.weights.h5", "report.json"):
        (folder / name).unlink()
    kept = {name: data for name, data in contents(folder).items() if name.endswith((".keras", ".index"))}
    refused = train(folder, 100_000)
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.splitlines()[-1].startswith(f"error: --workdir={folder} cannot be written (")
    assert refused.stderr.count("error:") == 1
    assert "Traceback" not in refused.stderr
    assert not [name for name in contents(folder) if "temp" in name or "tmp" in name or "/." in f"/{name}"]
    assert kept.items() <= contents(folder).items()
    ended = train(folder)
    assert ended.returncode == 0, ended.stderr
    assert not differences(state(folder), state(finished))
