"""One line says what was received, what is expected and the next step, in the words of each interface."""

import io
import sys

import pytest

from aigan_tf.errors import DivergedError, InputError, graph_refusal, say, shown_value


def as_flag(setting):
    return f"--{setting}"


def test_setting_is_named_as_the_interface_writes_it():
    error = InputError(8.0, "at most 1", "lower it, or raise `image_size`", setting="epsilon", problem="(`attack`)")
    assert str(error) == "epsilon=8 (attack): expected at most 1; lower it, or raise image_size"
    shown = "--epsilon=8 (--attack): expected at most 1; lower it, or raise --image_size"
    assert error.message(as_flag) == shown
    plain = InputError("the data set is empty", "images", "add some")
    assert str(plain) == plain.message(as_flag) == "the data set is empty: expected images; add some"


def test_error_within_a_file_names_it_and_the_setting_as_the_file_does():
    error = DivergedError(2, "at most 1", "restore the file", setting="epsilon").within("run/config.json")
    assert type(error) is DivergedError
    assert error.message(as_flag) == "run/config.json: epsilon=2: expected at most 1; restore the file"


@pytest.mark.parametrize("text", ["a\nb", "a\u2028b", "a\x1b[31mb", "a\0b", "a\udcffb"])
def test_unprintable_text_is_escaped(text):
    line = str(InputError(text, "a name", "correct it", setting="dataset", problem=text, place=text))
    assert line.isprintable()
    assert line.count("\\") == 3


def test_long_values_are_shortened():
    for value in ("x" * 5000, 10**5000, tuple(range(5000))):
        line = str(InputError(value, "less", "shorten it", setting="dataset"))
        assert len(line) < 400
        assert "...: expected less" in line


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (8 / 255, "8/255"), (0.3, "0.3"), (1.0, "1"), (1e300, "1e+300"), (float("nan"), "nan"), (0.0157, "0.0157"),
        (True, "true"), (None, "none"), ((0.0, 255.0), "0,255"), ([32, 48], "32,48"), ("a b", "a b"), (12, "12"),
    ],
)  # fmt: skip
def test_values_are_shown_as_a_user_writes_them(value, shown):
    assert shown_value(value) == shown


@pytest.mark.parametrize(
    "message",
    [
        "assertion failed: [images must be square; received] [3 5]\n\t [[{{node Assert/Assert}}]]",
        "Graph execution error:\n\nassertion failed: [images must be square; received] [3 5]\n\t [[{{node a}}]] [Op:b]",
        "assertion failed: [images must be square; received] [3 5]\n\t [[{{function_node map_body_7}}{{node map/Assert}}]]",
    ],
)
def test_a_graphs_refusal_is_told_without_its_place(message):
    assert graph_refusal(message) == "images must be square; received 3 5"


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("output", ["ascii", "full", "closed", None])
def test_printing_never_raises(output, monkeypatch):
    written = io.BytesIO()
    streams = {"ascii": io.TextIOWrapper(written, "ascii"), "full": Full(), "closed": io.StringIO(), None: None}
    streams["closed"].close()
    monkeypatch.setattr(sys, "stdout", streams[output])
    say("class \u732b: 90 %")
    assert output != "ascii" or written.getvalue() == b"class \\u732b: 90 %\n"
