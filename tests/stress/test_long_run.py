"""That a long run's growth would be seen; `long_run.py` itself is run by itself."""

import pytest
from long_run import growth


def samples(count, **grown):
    """Memory as it was seen to go up and down, and what each sample adds to a value."""
    flat = {"resident_mb": 900.0, "open_handles": 9, "checkpoint_files": 10, "checkpoint_mb": 5.0, "log_mb": 0.1}
    jitter = [0.0, 0.8, 1.0, -3.0, 0.5]
    return [
        {
            name: value + i * grown.get(name, 0) + (jitter[i % 5] if name == "resident_mb" else 0)
            for name, value in flat.items()
        }
        for i in range(count)
    ]


def test_what_stays_as_it_is_does_not_grow():
    for count, unit in ((100, "1000 steps"), (50, "evaluation"), (10, "1000 steps"), (4, "evaluation")):
        assert growth(samples(count), unit, 50 if "step" in unit else 1)["too_much"] == []


@pytest.mark.parametrize(
    ("name", "count", "each", "unit"),
    [
        ("resident_mb", 100, 6.0 / 50, "1000 steps"),  # six kilobytes a step
        ("resident_mb", 50, 0.6, "evaluation"),
        ("resident_mb", 4, 20.0, "evaluation"),  # an evaluation's graphs
        ("open_handles", 50, 1, "evaluation"),
        ("checkpoint_files", 100, 1, "1000 steps"),
        ("checkpoint_mb", 100, 0.1, "1000 steps"),
        ("log_mb", 100, 0.02, "1000 steps"),
        ("log_mb", 50, 0.01, "evaluation"),
    ],
)
def test_a_leak_is_seen(name, count, each, unit):
    found = growth(samples(count, **{name: each}), unit, 50 if "step" in unit else 1)
    assert found["too_much"] == [name]
