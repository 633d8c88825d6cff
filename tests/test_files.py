"""Files and folders that are written whole or not at all, and CSV."""

import os

import pytest
import tensorflow as tf

from aigan_tf import files
from aigan_tf.errors import InputError

# Each `with` below holds the write it interrupts.
# ruff: noqa: PT012


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "sub" / "x.weights.h5"
    files.write_bytes(path, b"old")
    with pytest.raises(KeyboardInterrupt), files.atomic_file(path) as temporary:
        assert temporary.name.endswith(".weights.h5")
        temporary.write_bytes(b"half of the n")
        assert path.read_bytes() == b"old"
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["x.weights.h5"]
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["x.weights.h5"]


def test_an_interrupted_first_write_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), files.atomic_file(tmp_path / "x.keras") as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert not os.listdir(tmp_path)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "generator" / "1"
    with pytest.raises(RuntimeError), files.atomic_folder(path) as temporary:
        (temporary / "variables").mkdir()
        (temporary / "variables" / "data").write_text("half")
        assert not path.exists()
        raise RuntimeError
    assert not os.listdir(path.parent)
    with files.atomic_folder(path) as temporary:
        (temporary / "data").write_text("whole")
    assert os.listdir(path.parent) == ["1"]
    assert (path / "data").read_text() == "whole"


def test_a_folder_is_never_written_over(tmp_path):
    path = tmp_path / "1"
    path.mkdir()
    (path / "data").write_text("old")
    with pytest.raises(InputError, match="1 cannot be written"), files.atomic_folder(path) as temporary:
        (temporary / "data").write_text("new")
    assert (path / "data").read_text() == "old"
    assert os.listdir(tmp_path) == ["1"]


def test_csv_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "metrics.csv"
    assert files.read_csv(path) == []
    rows = [{"epoch": "1", "loss": "0.5"}, {"epoch": "2", "loss": 'a, "b"'}]
    files.write_csv(path, rows)
    assert files.read_csv(path) == rows


@pytest.mark.parametrize(("row", "cells"), [("1,2,3", "more"), ("1", "fewer")])
def test_a_row_that_does_not_fit_its_header_is_refused(row, cells, tmp_path):
    (tmp_path / "metrics.csv").write_text(f"epoch,loss\n1,0.5\n{row}\n")
    with pytest.raises(
        InputError, match=rf"metrics\.csv: row 2 has {cells} cells than the header; expected .*: restore it"
    ):
        files.read_csv(tmp_path / "metrics.csv")


def test_a_column_that_some_rows_lack_is_empty_there(tmp_path):
    files.write_csv(tmp_path / "metrics.csv", [{"epoch": "1"}, {"epoch": "2", "new_metric": "3"}])
    assert files.read_csv(tmp_path / "metrics.csv") == [
        {"epoch": "1", "new_metric": ""},
        {"epoch": "2", "new_metric": "3"},
    ]


def test_what_tensorflow_says_of_a_file_in_the_way_is_one_line(tmp_path):
    (tmp_path / "aigan").write_text("mine")
    refused = pytest.raises(InputError, match=r"cannot be written \(Not a directory\); expected")
    with refused, files.writing("the checkpoint", tmp_path):
        tf.train.Checkpoint(x=tf.Variable(0)).write(str(tmp_path / "aigan" / "ckpt-1"))


def test_only_numbers_are_numbers(tmp_path):
    for name in ("1", "10", "9", "\u00b2", "\u0663", "1a", "-1", ""):
        (tmp_path / name).mkdir(exist_ok=True)
    assert [path.name for path in files.numbered(tmp_path)] == ["1", "9", "10"]
