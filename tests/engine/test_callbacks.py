"""Training ends at the first loss that is not finite, and the error says why."""

import math

import keras
import pytest
import tensorflow as tf

from aigan_tf.engine.callbacks import StopNotFinite
from aigan_tf.engine.checkpoints import Checkpoint
from aigan_tf.errors import DivergedError


class Broken(keras.Model):
    """Two of its losses are NaN from the third step on."""

    def __init__(self):
        super().__init__()
        self.built = True
        self.compile(optimizer=keras.optimizers.SGD(), jit_compile=False)

    def train_step(self, data):
        bad = tf.where(self.optimizer.iterations.value >= 2, tf.constant(math.nan), 1.0)
        self.optimizer.iterations.assign_add(1)
        return {"gan_loss": bad, "hinge_loss": tf.constant(0.5), "generator_loss": bad}


def test_loss_that_is_not_finite_ends_training_and_is_named(tmp_path):
    checkpoint = Checkpoint(tmp_path, weight=keras.Variable(1.0))
    checkpoint.steps_done = 2
    checkpoint.on_epoch_end(0)
    batches = tf.data.Dataset.from_tensors(tf.zeros((1, 1))).repeat()
    stop = StopNotFinite(checkpoint.checkpoint_hint, "lower `learning_rate`")
    with pytest.raises(DivergedError) as error:
        Broken().fit(batches, steps_per_epoch=9, verbose=0, callbacks=[stop])
    message = str(error.value)
    assert "step 3" in message
    assert "gan_loss is nan" in message
    assert "hinge_loss" not in message
    assert "generator_loss" not in message  # it is the sum of others
    assert "ckpt-2" in message
    assert "lower `learning_rate`" in error.value.fix


def test_infinite_validation_loss_is_caught_before_the_epoch_is_saved():
    stop = StopNotFinite(lambda: "no checkpoint", "lower `learning_rate`")
    stop.set_model(Broken())
    stop.on_epoch_end(0, {"generator_loss": 1.0, "val_generator_loss": 2.0})
    with pytest.raises(DivergedError, match="val_generator_loss is inf"):
        stop.on_epoch_end(1, {"generator_loss": 1.0, "val_generator_loss": math.inf})
