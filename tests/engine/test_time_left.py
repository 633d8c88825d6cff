"""Estimates of the time left are plain arithmetic on what was measured."""

import pytest

from aigan_tf.engine.time_left import TimeLeft, duration


def measured(**arguments):
    """Both stages, ten epochs of 100 steps: 0.5 s a step of stage 1, 0.2 s one of stage 2, 3 s each epoch's end."""
    time_left = TimeLeft(10, 100, stage1_epochs=2, batch_size=10, validation_images=50, **arguments)
    for stage, seconds in ((1, 0.5), (2, 0.2)):
        time_left.step[stage].add(seconds)
    for seconds in (9.0, 2.0):  # the first validation is traced
        time_left.validation.add(seconds)
    time_left.saving.add(1.0)
    return time_left


def test_parts_cover_stages_epoch_ends_and_evaluation():
    time_left = measured(attacks=1000)
    time_left.afterwards, time_left.attack_seconds = 10.0, 0.04
    parts = time_left.parts()
    assert parts == pytest.approx({"stage 1": 100, "stage 2": 160, "validation": 30, "test": 50})
    parts = time_left.parts(epoch=1, step=40)
    assert parts == pytest.approx({"stage 1": 30, "stage 2": 160, "validation": 27, "test": 50})
    # Stage 1 has ended early, and leaves its epochs to stage 2.
    assert time_left.parts(epoch=1, step=0, stage=2) == pytest.approx({"stage 2": 180, "validation": 27, "test": 50})
    assert time_left.parts(epoch=10, stage=2) == pytest.approx({"test": 50})
    assert measured(trainings=3).parts()["other trainings"] == pytest.approx(2 * (10 * 100 * 0.2 + 30))


def test_what_is_not_measured_yet_is_derived_and_said_to_be_a_bound():
    time_left = TimeLeft(10, 100, stage1_epochs=2, batch_size=10, validation_images=50, attacks=20)
    assert time_left.seconds() is None
    time_left.step[1].add(0.5)
    assert time_left.is_bound
    parts = time_left.parts()
    assert parts["stage 2"] == pytest.approx(8 * 100 * 0.5)  # as slow as stage 1 at most
    assert 0 < parts["test"] - time_left.afterwards < 50 * 0.05
    time_left.validation.add(60.0)  # with its tracing
    assert time_left.parts()["validation"] < 10 * 5
    time_left.step[2].add(0.1)
    assert not time_left.is_bound
    assert time_left.parts()["stage 2"] == pytest.approx(8 * 100 * 0.1)


def test_a_change_of_pace_is_followed():
    time_left = measured()
    for _ in range(600):
        time_left.step[2].add(0.4)
    assert time_left.step_seconds[2] == pytest.approx(0.4, rel=0.05)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0 s"), (119, "119 s"), (121, "2 min"), (52 * 60, "52 min"), (3.4 * 3600, "3.4 h")]
)
def test_durations_have_the_unit_a_person_would_take(seconds, shown):
    assert duration(seconds) == shown
