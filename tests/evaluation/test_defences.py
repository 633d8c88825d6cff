"""Runs with different defences, compared."""

import json
import pathlib

import pytest
from tiny_runs import change_config, tiny

from aigan_tf.errors import InputError
from aigan_tf.evaluation import defences
from aigan_tf.evaluation.defences import compare_defences
from aigan_tf.training.run import train_and_export
from aigan_tf.workdir import Workdir


@pytest.mark.long
def test_defended_and_standard_runs_are_compared(run_folder, tmp_path, capsys):
    train_and_export(tiny(defense="pgd"), tmp_path / "defended")
    assert "under attack (pgd)" in capsys.readouterr().out
    paths = [str(run_folder), str(tmp_path / "defended")]
    rows = compare_defences(paths, num_examples=30, output=str(tmp_path / "out"))
    assert list(rows) == paths
    assert [row["defense"] for row in rows.values()] == ["none", "pgd"]
    printed, html = capsys.readouterr().out, (tmp_path / "out" / "defenses.html").read_text()
    for path, row in rows.items():
        assert not Workdir(path).evaluation.exists()
        report = json.loads((tmp_path / "out" / pathlib.Path(path).name / "report.json").read_text())
        assert row["success_rate"]["aigan"] == report["attacks"]["aigan"]["success_rate"]
        assert row["robust_accuracy"]["pgd"] <= row["robust_accuracy"]["fgsm"] <= row["clean_accuracy"]
        for text in (printed, html):
            assert f"{row['robust_accuracy']['pgd']:.2%}" in text
    text = (tmp_path / "out" / "defenses.json").read_text()
    assert [*json.loads(text)["runs"].values()] == [*rows.values()]
    assert str(tmp_path) not in text


def test_measured_runs_keep_their_reports_if_a_later_one_fails(tmp_path, monkeypatch):
    def measured(path, *arguments, **named):
        if path == "b":
            raise InputError("b fails", "a classifier with a gradient", "leave it out")
        return {}, {"report.html": b"page"}

    monkeypatch.setattr(defences, "check_finished_run", lambda *arguments: (None, tiny()))
    monkeypatch.setattr(defences, "measure_workdir", measured)
    monkeypatch.setattr(defences.tables, "comparison_text", lambda result: "")
    monkeypatch.setattr(defences, "_row", lambda *arguments: {})
    with pytest.raises(InputError, match="b fails"):
        compare_defences(["a", "b"], output=str(tmp_path / "out"))
    assert (tmp_path / "out" / "a" / "report.html").read_bytes() == b"page"


def test_runs_of_different_kinds_are_not_compared(finished, run_folder, tmp_path):
    change_config(run_folder, epsilon=0.2)
    with pytest.raises(InputError, match="epsilon") as error:
        compare_defences([str(finished[0]), str(run_folder)], output=str(tmp_path / "out"))
    assert error.value.setting == "workdir"
    assert not (tmp_path / "out").exists()
