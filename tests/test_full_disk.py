"""A full disk, a file that grows too large, a folder that may not be written: one line, and nothing lost or left over."""

import contextlib
import errno
import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from kill_and_resume import SETTINGS, differences, state

from aigan_tf import files
from aigan_tf.errors import InputError
from aigan_tf.evaluation.image_folder import ImageFolder
from aigan_tf.method.networks import Generator
from aigan_tf.serving.export import ServedGenerator, export_generator
from aigan_tf.training import generator
from aigan_tf.workdir import Workdir

resource = pytest.importorskip("resource", reason="this system limits no file's size")
ROOT = pathlib.Path(__file__).parents[1]


def contents(folder):
    """The files below a folder, hidden ones and locks included, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextlib.contextmanager
def largest_file(size):
    """Within the block a file of this process may have so many bytes; writing more fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def tiny_disk(folder, kibibytes):
    """Mounts a disk of so many KiB at `folder`, which is made; skips the test where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a tmpfs may not be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/run/generator.weights.h5"),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/run/generator.weights.h5"),
        OSError("Unable to write (errno = 27, error message = 'File too large', buf = 0x55b7)"),  # as h5py says it
        tf.errors.ResourceExhaustedError(None, None, "/run/ckpt-1.data; No space left on device [Op:SaveV2]"),
        tf.errors.OutOfRangeError(None, None, "/run/ckpt-1_temp/part-00000; File too large [Op:SaveV2]"),
    ],
)
def test_what_a_library_says_of_a_full_disk_becomes_one_line(error):
    line = r"^--workdir=run cannot be written \([^/]*\); expected (room|a place that may be written)"
    with pytest.raises(InputError, match=line) as caught, files.writing("--workdir=run", pathlib.Path("/run")):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, "failed to allocate memory"),
        ValueError("shapes differ"),
        FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/run/x"),
        PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/cache/fonts.json"),  # elsewhere
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x"),
        RuntimeError("CUDA: Operation not permitted"),
        InputError("the lines of others stay; No space left on device"),
    ],
)
def test_other_errors_pass_as_they_are(error):
    with pytest.raises(type(error)) as caught, files.writing("run", pathlib.Path("/run")):
        raise error
    assert caught.value is error


@pytest.mark.skipif(
    not pathlib.Path("/proc/self").exists(), reason="this system has no folder in which none can be made"
)
def test_a_folder_that_the_system_will_not_make_is_refused():
    refused = pytest.raises(InputError, match=r"^--workdir=/proc/run cannot be written \(No such file or directory\)")
    with refused, Workdir("/proc/run").locked():
        pytest.fail("there is no such folder")


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path):
    files.write_json(tmp_path / "report.json", {"success_rate": 0.5})
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"report\.json cannot be written \(File too large\)"), largest_file(100):
        files.write_json(tmp_path / "report.json", {"success_rate": "1" * 1000})
    assert contents(tmp_path) == before


def test_a_report_whose_page_does_not_fit_leaves_the_earlier_one(tmp_path):
    files.write_report(tmp_path, "report", {"success_rate": 0.5}, [{"success_rate": 0.5}], "half")
    before = contents(tmp_path)
    assert len(before) == 3
    refused = pytest.raises(InputError, match=r"report\.html cannot be written \(File too large\)")
    with refused, largest_file(100):
        files.write_report(tmp_path, "report", {"success_rate": 1.0}, [{"success_rate": 1.0}], "all" * 1000)
    assert contents(tmp_path) == before


def test_weights_that_do_not_fit_leave_the_old_ones(make_aigan, tmp_path):
    folder = Workdir(tmp_path)
    aigan = make_aigan()
    aigan.generator(tf.zeros((1, 8, 8, 1)), tf.zeros((1,), tf.int32))
    generator.save_generator(aigan, folder.weights)
    before = contents(tmp_path)
    aigan.generator.set_weights([weight + 1 for weight in aigan.generator.get_weights()])
    with pytest.raises(InputError, match=r"generator\.weights\.h5 cannot be written"), largest_file(10_000):
        generator.save_generator(aigan, folder.weights)
    assert contents(tmp_path) == before
    generator.save_generator(aigan, folder.weights)
    folder.verify(folder.weights)
    weights = aigan.generator.get_weights()
    aigan.generator.set_weights([np.zeros_like(weight) for weight in weights])
    aigan.generator.load_weights(folder.weights)
    assert all(map(np.array_equal, aigan.generator.get_weights(), weights))


@pytest.mark.parametrize("size", [300, 50_000])  # the variables do not fit; or they do, and the graph does not
def test_an_export_that_does_not_fit_leaves_the_earlier_versions(size, tmp_path):
    keras.utils.set_random_seed(0)
    generator = Generator(10, 1, width=4, num_blocks=1, embedding_dim=8)
    generator(tf.zeros((1, 8, 8, 1)), tf.zeros((1,), tf.int32))
    served = ServedGenerator(generator, (8, 8, 1), tuple("0123456789"), 0.3, targeted=True)
    export_generator(tmp_path, served, {})
    before = contents(tmp_path)
    with pytest.raises(InputError, match="2 cannot be written"), largest_file(size):
        export_generator(tmp_path, served, {})
    assert contents(tmp_path) == before
    assert os.listdir(tmp_path) == ["1"]


@pytest.mark.parametrize("size", [60, 1000])  # no picture fits; or they do, and the manifest only until it is closed
def test_pictures_that_do_not_fit_leave_nothing(size, tmp_path):
    (tmp_path / "mine").mkdir()
    count = 20
    batch = {name: np.zeros(count, np.int32) for name in ("index", "label", "target", "answer")}
    batch |= {name: np.zeros(count) for name in ("l2", "linf", "ssim")}
    batch["index"] = np.arange(count)
    batch["pictures"] = np.zeros((count, 8, 8, 1), np.uint8)
    refused = pytest.raises(InputError, match="mine cannot be written")
    with refused, largest_file(size), ImageFolder(tmp_path / "mine", ("zero",), targeted=True) as pictures:
        pictures.keep("aigan", batch)
    assert os.listdir(tmp_path) == ["mine"]
    assert not os.listdir(tmp_path / "mine")
    with ImageFolder(tmp_path / "mine", ("zero",), targeted=True) as pictures:
        pictures.keep("aigan", batch)
    assert len(contents(tmp_path / "mine")) == count + 1


def test_a_checkpoint_that_was_not_finished_is_removed(tmp_path):
    half = [tmp_path / "run" / part / "checkpoints" / "aigan" / "ckpt-2_temp" for part in (".", "advgan/3")]
    other = tmp_path / "run" / "transfer" / "a" / "checkpoints" / "classifier" / "ckpt-1_temp"
    with Workdir(tmp_path / "run" / "transfer" / "a").locked():
        pass
    for folder in (*half, other):
        folder.mkdir(parents=True)
        (folder / "part-00000-of-00001.data.tempstate1").write_text("half")
    (half[0].parent / "ckpt-1.index").write_text("whole")
    with Workdir(tmp_path / "run").locked():
        pass
    assert not any(folder.exists() for folder in half)
    assert other.exists()  # of a run with a lock of its own, which may just be writing it
    assert (half[0].parent / "ckpt-1.index").read_text() == "whole"


def test_a_disk_that_may_only_be_read_is_refused(tmp_path):
    disk = tmp_path / "disk"
    with tiny_disk(disk, 100):
        Workdir(disk / "run").open({"epsilon": 0.3}, {}, {})
        before = contents(disk)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for refused in (Workdir(disk / "run").locked(), files.atomic_folder(disk / "pictures")):
            with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\)"), refused:
                pass
        assert contents(disk) == before


def run_command(script, folder, *arguments, size=None):
    """Runs train.py or evaluate.py, which may write files of at most `size` bytes; returns its status and output."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    command = [sys.executable, str(ROOT / script), f"--workdir={folder}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, preexec_fn=limit if size else None)


def assert_refused(ended, place, folder):
    """One line about `place`, no traceback, and no temporary file anywhere in `folder`."""
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith(f"error: {place} cannot be written (")
    assert ended.stderr.count("error:") == 1
    assert "Traceback" not in ended.stderr
    left = [name for name in contents(folder) if "temp" in name or "tmp" in name or "/." in f"/{name}"]
    assert left in ([], [".lock"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The work folder of a finished run, through the real command."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    ended = run_command("train.py", folder, *SETTINGS)
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.mark.long
@pytest.mark.parametrize(
    ("missing", "size", "place"),
    [
        (["*.keras", "checkpoints/aigan", "logs"], 500_000, "{}/classifier.keras"),
        (["checkpoints/aigan", "logs", "metrics.csv"], 100_000, "--workdir={}"),
        ([], 50_000, "{}/generator.weights.h5"),
    ],
    ids=["classifier", "checkpoint", "weights"],
)
def test_training_refused_goes_on_once_there_is_room(missing, size, place, finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for pattern in (*missing, "generator.weights.h5", "generator", "report.json"):
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    kept = {name: data for name, data in contents(folder).items() if name.endswith((".h5", ".keras", ".index"))}
    ended = run_command("train.py", folder, *SETTINGS, size=size)
    assert_refused(ended, place.format(folder), folder)
    assert kept.items() <= contents(folder).items()
    ended = run_command("train.py", folder, *SETTINGS)
    assert ended.returncode == 0, ended.stderr
    assert not differences(state(folder), state(finished))


@pytest.mark.long
@pytest.mark.parametrize(
    ("script", "arguments", "place"),
    [
        ("train.py", ["--export_run"], "{}/generator/2"),
        ("evaluate.py", ["--num_examples=20"], "{}/evaluation/report.html"),
        ("evaluate.py", ["--num_examples=300", "--save_images={}/pictures"], "{}/pictures"),
    ],
)
def test_a_finished_run_on_a_full_disk_stays_as_it_is(script, arguments, place, finished, tmp_path):
    disk = tmp_path / "disk"
    with tiny_disk(disk, 16_000):
        folder = disk / "run"
        shutil.copytree(finished, folder)
        for name in ("report.json", "report.csv", "report.html"):
            files.write_bytes(folder / "evaluation" / name, b"of an earlier evaluation")
        before = contents(folder)
        usage = shutil.disk_usage(disk)
        (disk / "others").write_bytes(bytes(usage.free - 60_000))  # room for the tables, not for what is asked for
        ended = run_command(script, folder, *(argument.format(folder) for argument in arguments))
        assert_refused(ended, place.format(folder), folder)
        assert contents(folder) == before
