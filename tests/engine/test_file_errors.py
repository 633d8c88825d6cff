"""Folders whose names TensorFlow's readers would take for a pattern."""

import keras
import pytest
import tensorflow as tf

from aigan_tf.engine import saved_model
from aigan_tf.engine.checkpoints import Checkpoint


class Doubled(tf.Module):
    def __init__(self):
        super().__init__()
        self.factor = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec((), tf.float32)])
    def double(self, number):
        return {"doubled": self.factor * number}


@pytest.mark.parametrize("name", ["run[1]", "run\\1", "a [x], b*"])
def test_checkpoints_and_saved_models_are_read_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a relative path
    variable = keras.Variable(3.0)
    checkpoint = Checkpoint(f"{name}/checkpoints", variables=variable)
    checkpoint.steps_done = 5
    checkpoint.on_epoch_end(0)
    variable.assign(0.0)
    again = Checkpoint(f"{name}/checkpoints", variables=variable)
    assert again.restore() == 5
    assert float(variable.value) == 3.0
    assert name in str(again.newest)

    module = Doubled()
    folder = tmp_path / name / "generator" / "1"
    saved_model.save(module, folder, {"serving_default": module.double})
    served = saved_model.load(folder).signatures["serving_default"]
    assert float(served(number=tf.constant(4.0))["doubled"]) == 8.0
