"""What `long_run.py` takes for growth; the script itself runs on its own."""

import pytest
from long_run import growth


def grown(count, unit, **per_sample):
    """Which values have grown too much in `count` samples, whose memory fluctuates, if each sample adds so much to a value."""
    start = {"resident_mb": 900.0, "open_handles": 9, "checkpoint_files": 10, "checkpoint_mb": 5.0, "log_mb": 0.1}
    jitter = [0.0, 0.8, 1.0, -3.0, 0.5]
    samples = [{name: value + i * per_sample.get(name, 0) for name, value in start.items()} for i in range(count)]
    for i, sample in enumerate(samples):
        sample["resident_mb"] += jitter[i % 5]
    return growth(samples, unit, 50 if unit == "1000 steps" else 1)["too_much"]


@pytest.mark.parametrize(("count", "unit"), [(100, "1000 steps"), (50, "evaluation"), (4, "evaluation")])
def test_fluctuation_is_not_growth(count, unit):
    assert grown(count, unit) == []


@pytest.mark.parametrize(
    ("name", "count", "per_sample", "unit"),
    [
        ("resident_mb", 100, 6.0 / 50, "1000 steps"),  # six kilobytes per step
        ("resident_mb", 4, 20.0, "evaluation"),  # the graphs of an evaluation
        ("open_handles", 50, 1, "evaluation"),
        ("checkpoint_files", 100, 1, "1000 steps"),
        ("log_mb", 50, 0.01, "evaluation"),
    ],
)
def test_leak_is_found(name, count, per_sample, unit):
    assert grown(count, unit, **{name: per_sample}) == [name]
