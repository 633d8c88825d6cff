"""Figures stay readable, whatever the classes are called."""

import itertools

import numpy as np
import pytest

from aigan_tf.evaluation import figures, tables

NAMES = ["sweet_pepper", "aquarium_fish", "willow_tree", "WWWWWWWW", "can"]


@pytest.mark.parametrize("answer", ["maple_tree", "a class with a name that is longer than any line below an image"])
def test_captions_do_not_overlap(monkeypatch, answer):
    monkeypatch.setattr(figures, "_file", lambda figure, kind: figure)
    captions = [f"{name}\ntarget: {name}\nanswer: {answer}" for name in NAMES]
    figure = figures.picture_grid({"clean": np.zeros((5, 8, 8, 1))}, captions, "heading")
    figure.draw_without_rendering()
    boxes = [axis.xaxis.label.get_window_extent() for axis in figure.axes]
    assert len(boxes) == 5
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))
    assert min(axis.xaxis.label.get_fontsize() for axis in figure.axes) >= 5


def test_dollar_sign_in_a_name_starts_no_formula():
    names = ["$5", "a$b^^$"]
    assert figures.picture_grid({"clean": np.zeros((2, 8, 8, 1))}, names, names[1]).startswith(b"\x89PNG")
    assert b"</svg>" in figures.matrix([[None, 0.5], [0.5, None]], names, names[1])
    assert b"</svg>" in figures.success_by_target({names[1]: dict.fromkeys(names, 0.5)}, names[1])
    curve = {names[1]: [{"epsilon": 0.1, "success_rate": 0.5}]}
    assert b"</svg>" in figures.success_by_epsilon(curve, names[1])


def test_table_by_class_stays_readable_with_a_thousand_classes():
    rates = {f"c{number}": None if number == 7 else number / 1000 for number in reversed(range(1000))}
    header, *rows = tables.class_rows({"aigan": {"attack": "targeted", "success_by_class": rates}})
    assert header == ("target class", "aigan")
    assert len(rows) == tables.MAX_CLASS_ROWS
    assert rows[:2] == [("c0", "0.0%"), ("c1", "0.1%")]
    assert rows[-1][0] == "c100"
