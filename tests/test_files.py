"""Files and folders that are written whole or not at all, and which errors mean that they cannot be."""

import errno
import fcntl
import os
import pathlib
import stat

import pytest

from aigan_tf import files
from aigan_tf.errors import InputError

RUN = pathlib.Path("run").absolute()


def system_refusal(number):
    raise OSError(number, os.strerror(number))


# Each `with` below holds the write it interrupts.
# ruff: noqa: PT012


def test_a_file_may_be_written_by_two_threads_at_once(tmp_path):
    path = tmp_path / "image.png"
    with files.atomic_file(path) as first, files.atomic_file(path) as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert path.read_bytes() == b"first"  # the outer block ends last
    assert list(tmp_path.iterdir()) == [path]


def test_modes_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_bytes(tmp_path / "data", b"")
        with files.atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("data", "folder")] == [0o640, 0o750]


def test_an_empty_folder_stays_and_is_filled(tmp_path):
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "lost+found").mkdir()
    link = tmp_path / "link"
    link.symlink_to("volume")
    (tmp_path / "volume" / ".link.12345678" / "link").mkdir(parents=True)  # of a killed process
    tmp_path.chmod(0o500)  # the place beside a volume is seldom the user's
    try:
        with files.atomic_folder(link) as temporary:
            (temporary / "images").mkdir()
            (temporary / "images" / "1.png").write_bytes(b"picture")
            assert not (link / "images").exists()
    finally:
        tmp_path.chmod(0o700)
    assert {*os.listdir(tmp_path / "volume")} == {"lost+found", "images"}
    with pytest.raises(InputError), files.atomic_folder(link):
        pytest.fail("what is refused is refused at once")


@pytest.mark.parametrize("name", ["a" * 246, "b" * 255, "\udcff", "[1]\\2"])
def test_names_that_the_system_takes(name, tmp_path):
    files.write_bytes(tmp_path / name, b"whole")
    with files.atomic_folder(tmp_path / "folder" / name) as temporary:
        (temporary / "data").touch()
    assert (os.listdir(tmp_path / "folder"), (tmp_path / name).read_bytes()) == ([name], b"whole")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EPERM])
def test_a_file_system_without_fsync_is_written(number, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: system_refusal(number))
    files.write_bytes(tmp_path / "data", b"whole")
    monkeypatch.setattr(os, "fsync", lambda _: system_refusal(errno.ENOSPC))
    with pytest.raises(InputError):
        files.write_bytes(tmp_path / "data", b"lost")
    assert (tmp_path / "data").read_bytes() == b"whole"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks_has_one_run_at_a_time_as_well(number, tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: system_refusal(number))
    lock = tmp_path / ".lock"
    with files.locked(lock, wait=False), pytest.raises(BlockingIOError), files.locked(lock, wait=False):
        pytest.fail("held twice")
    with files.locked(lock, wait=False):
        pass


def test_a_table_holds_no_formulas_and_its_numbers_stay_numbers(tmp_path):
    cells = {"name": "=1+1", "class": "@cat", "loss": "-0.5", "rate": -1e-3, "text": "a-b"}
    files.write_csv(tmp_path / "a.csv", [cells])
    assert [*files.read_csv(tmp_path / "a.csv")[0].values()] == ["'=1+1", "'@cat", "-0.5", "-0.001", "a-b"]


def test_a_file_beyond_its_limit_is_not_read(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"")
    os.truncate(tmp_path / "names.txt", 2**31)  # nothing of it is stored
    with pytest.raises(OSError, match="MiB"):
        files.read_bytes(tmp_path / "names.txt")


def test_interrupted_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "sub" / "x.weights.h5"
    files.write_bytes(path, b"old")
    with pytest.raises(KeyboardInterrupt), files.atomic_file(path) as temporary:
        assert temporary.name.endswith(".weights.h5")
        temporary.write_bytes(b"half of the n")
        assert path.read_bytes() == b"old"
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["x.weights.h5"]


def test_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "generator" / "1"
    with pytest.raises(RuntimeError), files.atomic_folder(path) as temporary:
        (temporary / "variables").mkdir()
        (temporary / "variables" / "data").write_text("half")
        assert not path.exists()
        raise RuntimeError
    assert not os.listdir(path.parent)
    path.mkdir()  # an empty folder may be replaced
    with files.atomic_folder(path) as temporary:
        (temporary / "data").write_text("whole")
    assert (path / "data").read_text() == "whole"
    with pytest.raises(InputError, match="1 cannot be written"), files.atomic_folder(path) as temporary:
        (temporary / "data").write_text("new")
    assert (path / "data").read_text() == "whole"
    assert os.listdir(path.parent) == ["1"]


def system_error(number, *place):
    return OSError(number, os.strerror(number), *place)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (system_error(errno.EFBIG, "run/generator.weights.h5"), "room"),
        (system_error(errno.EROFS, RUN.parent), "writable"),
        (OSError(errno.ENOSPC, "write failed,\nfile name = '/run/x'"), "room"),  # as h5py words it
    ],
)
def test_refusal_by_the_system_becomes_an_input_error(error, expected, monkeypatch):
    monkeypatch.setattr(pathlib.Path, "mkdir", lambda *_, **__: None)
    refused = pytest.raises(InputError, match=f"run cannot be written .* expected .*{expected}")
    with refused as caught, files.writing("run", pathlib.Path("run"), setting="workdir"):
        raise error
    assert caught.value.setting == "workdir"
    assert caught.value.__cause__ is error
    assert os.strerror(error.errno) in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("No space left on device"),
        system_error(errno.EACCES, "/cache/fonts.json"),
        InputError("the words of others", "them", "leave them"),
    ],
)
def test_other_errors_pass_unchanged(error, tmp_path):
    with pytest.raises(type(error)) as caught, files.writing("run", tmp_path):
        raise error
    assert caught.value is error


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_missing_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="x cannot be written"):
        files.write_bytes(tmp_path / "x", b"new")


@pytest.mark.parametrize("row", ["1,2,3", "1", "\xff"])
def test_damaged_csv_is_refused(row, tmp_path):
    path = tmp_path / "whole.csv"
    files.write_csv(path, [{"epoch": "1"}, {"epoch": "2", "new_metric": 'a, "b"'}])
    assert files.read_csv(path) == [{"epoch": "1", "new_metric": ""}, {"epoch": "2", "new_metric": 'a, "b"'}]
    (tmp_path / "metrics.csv").write_bytes(f"epoch,loss\n1,0.5\n{row}\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"metrics\.csv"):
        files.read_csv(tmp_path / "metrics.csv")


@pytest.mark.parametrize("path", ["a\0b", 5000 * "x", "loop/run", "~no-such-user/run"])
def test_what_the_system_does_not_take_for_a_path_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError):
        files.user_path(path)
