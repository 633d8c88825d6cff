"""What `long_run.py` takes for growth; the script itself runs on its own."""

import pytest
from long_run import growth


@pytest.mark.parametrize(
    ("name", "count", "per_sample", "unit"),
    [
        (None, 100, 0, "1000 steps"),
        (None, 4, 0, "evaluation"),
        ("resident_mb", 100, 6.0 / 50, "1000 steps"),  # six kilobytes per step
        ("resident_mb", 4, 20.0, "evaluation"),  # the graphs of an evaluation
        ("open_handles", 50, 1, "evaluation"),
        ("checkpoint_files", 100, 1, "1000 steps"),
    ],
)
def test_leak_is_found_and_fluctuation_is_not(name, count, per_sample, unit):
    start = {"resident_mb": 900.0, "open_handles": 9, "checkpoint_files": 10, "log_mb": 0.1}
    samples = [{key: value + i * per_sample * (key == name) for key, value in start.items()} for i in range(count)]
    for i, sample in enumerate(samples):
        sample["resident_mb"] += [0.0, 0.8, 1.0, -3.0, 0.5][i % 5]
    found = growth(samples, unit, 50 if unit == "1000 steps" else 1)
    assert found["too_much"] == ([name] if name else [])
