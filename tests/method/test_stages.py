"""The switch from stage 1 to stage 2."""

import pytest

from aigan_tf.method.stages import StageSwitch


class FakeModel:
    """What the switch reads and sets of a model."""

    stage = 1
    steps_done = 0

    class success_rate:
        name = "success"


@pytest.mark.parametrize(
    ("stage1_epochs", "success", "measured", "stages"),
    [
        (3, 0.5, [0.1, 0.5, 0.2, 0.2, 0.2], [1, 1, 2, 2, 2]),  # reached exactly
        (3, 0.5, [0.1, 0.49, 0.2, 0.9, 0.2], [1, 1, 1, 2, 2]),  # not reached in time
        (3, 1.0, [0.9, 0.9, 0.9, 0.9, 0.9], [1, 1, 1, 2, 2]),
        (0, 0.5, [0.1, 0.1], [2, 2]),
        (2, None, [0.9, 0.9], [1, 1]),  # there is no stage 2
    ],
)
def test_stage1_ends_at_the_success_or_after_its_epochs(stage1_epochs, success, measured, stages):
    model, actual, ended = FakeModel(), [], []
    switch = StageSwitch(stage1_epochs, len(measured), 10, success, lambda: ended.append(model.stage))
    switch.set_model(model)
    switch.on_train_begin()
    for epoch, value in enumerate(measured):
        actual.append(model.stage)
        switch.on_epoch_end(epoch, {"val_success": value})
    assert actual == stages
    assert ended == ([1] if 1 in stages else [])  # called once, while the stage is still the first


def test_run_of_stage_1_alone_that_is_given_more_epochs_begins_stage_2():
    model = FakeModel()
    model.steps_done = 20
    switch = StageSwitch(2, 4, 10, 0.5, list)
    switch.set_model(model)
    switch.on_train_begin()
    assert model.stage == 2
