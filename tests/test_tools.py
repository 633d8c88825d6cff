"""The committed figures and tables are what the scripts in tools/ write."""

import re

import matplotlib
import pytest

from tools import figures


def test_each_drawn_figure_has_its_runs():
    assert set(figures.COMMITTED) == {path.name for path in figures.IMAGES.glob("*.svg")}


def test_figures_come_out_the_same(tmp_path):
    figures.draw_committed(tmp_path)
    for name in figures.COMMITTED:
        drawn, committed = (tmp_path / name).read_text(), (figures.IMAGES / name).read_text()
        texts, committed_texts = (re.findall("<!-- (.*) -->", file) for file in (drawn, committed))
        assert texts == committed_texts
        if f"Matplotlib v{matplotlib.__version__}," in committed:
            assert drawn == committed


def test_a_control_must_begin_as_its_run():
    run, control = (figures.read_run(figures.RESULTS / name) for name in ("mnist_B", "cifar10_control"))
    with pytest.raises(SystemExit, match="cifar10_control does not begin as"):
        figures.stages(run, control)
