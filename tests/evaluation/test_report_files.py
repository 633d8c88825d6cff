"""Each evaluation is a folder of its own, whole or absent; none is ever replaced."""

import os
import subprocess
import sys

import pytest

from aigan_tf.errors import InputError
from aigan_tf.evaluation import report_files
from aigan_tf.evaluation.report_files import check_place, latest_report, write_measurement, write_report

PARTS = {"report.json": b"{}", "report.csv": b"", "report.html": b"page", "cifar10/report.html": b"its own"}


def names_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_two_reports_in_a_second_are_two_folders_and_the_newest_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report_files, "_TIME", "2026-11-29T14-30-05")
    (tmp_path / "report.json").write_text("of an earlier version")
    assert latest_report(tmp_path) == tmp_path / "report.json"
    first, second = (write_report(tmp_path, None, PARTS, "summary") for _ in range(2))
    assert first != second
    assert names_in(first) == names_in(second) == set(PARTS)
    assert capsys.readouterr().out.splitlines()[-1].endswith(str(second / "report.html"))
    assert latest_report(tmp_path) == second / "report.json"
    assert (tmp_path / "report.json").read_text() == "of an earlier version"


@pytest.mark.parametrize("output", ["full", "empty", "full/a.txt", "full/a.txt/new", "dangling"])
def test_existing_output_is_refused_before_measuring(output, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("kept")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(InputError) as error:
        check_place(tmp_path / "run" / "evaluation", str(tmp_path / output))
    assert error.value.setting == "output"
    check_place(tmp_path / "run" / "evaluation", str(tmp_path / "deep" / "new"))
    assert names_in(tmp_path) == {"full/a.txt"}
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("images", ["new", "new/images"])
def test_images_in_the_place_of_the_report_are_refused_before_measuring(images, tmp_path):
    place = tmp_path / "evaluation", str(tmp_path / "new")
    with pytest.raises(InputError) as error:
        check_place(*place, str(tmp_path / images))
    assert error.value.setting == "save_images"
    check_place(*place, str(tmp_path / "newer"))


@pytest.mark.parametrize("named", [False, True])
def test_killed_evaluation_leaves_no_half_report_and_the_next_one_removes_the_rest(named, tmp_path):
    parent, output = tmp_path / "evaluation", str(tmp_path / "mine") if named else None
    code = (
        "import os, pathlib, signal, sys\n"
        "from aigan_tf import files\n"
        "from aigan_tf.evaluation.report_files import write_report\n"
        "files._flush = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"  # all is written, none has its name
        "write_report(pathlib.Path(sys.argv[1]), sys.argv[2] or None, {'report.json': b'{}', 'report.html': b'new'})\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(parent), output or ""], cwd=os.getcwd())
    assert killed.returncode == -9
    left = names_in(tmp_path)
    assert left
    assert all("/." in f"/{name}" for name in left)
    assert latest_report(parent) is None
    users = (tmp_path / ".mine.12345678", parent / ".notes")
    for folder in users:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.txt").write_text("kept")
    written = write_report(parent, output, PARTS)
    assert names_in(written) == set(PARTS)
    kept = {str(path.relative_to(tmp_path)) for path in (*written.rglob("*"), *(folder / "a.txt" for folder in users))}
    assert names_in(tmp_path) - {"evaluation/latest"} == {name for name in kept if (tmp_path / name).is_file()}


def test_page_and_report_of_a_training_are_never_of_two_measurements(tmp_path, monkeypatch):
    report, page = tmp_path / "report.json", tmp_path / "report.html"
    write_measurement(report, {"rate": 1}, "of 1")
    replace = os.replace

    def only_once(*names):
        replace(*names)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", only_once)
    with pytest.raises(KeyboardInterrupt):
        write_measurement(report, {"rate": 2}, "of 2")
    assert ("2" in report.read_text(), page.exists()) == (True, False)
