"""Warnings about a GAN that fails without an error: each once, and only if it lasts."""

import math

import numpy as np
import pytest

from aigan_tf.build import build_advgan
from aigan_tf.config import make_config
from aigan_tf.method.failures import QuietFailures


@pytest.fixture
def warnings(capsys):
    """Ends an epoch with a loss of the discriminator, and returns what was printed."""

    def end_epoch(watch, discriminator_loss=1.0):
        watch.on_epoch_end(0, {"discriminator_loss": discriminator_loss})
        return capsys.readouterr().out

    return end_epoch


def test_collapsed_discriminator_is_warned_of_once(make_aigan, batch, warnings):
    watch = QuietFailures(make_aigan(), batch[0])
    assert warnings(watch, 0.3) == ""
    assert "collapsed" in warnings(watch, 1e-5)
    assert warnings(watch, 1e-5) == ""


def test_generator_that_ignores_its_target_is_warned_of_unless_it_has_one(
    make_aigan, digits, digit_classifier, batch, warnings
):
    aigan = make_aigan()
    watch = QuietFailures(aigan, batch[0])
    assert watch.target_distance() > 0.1
    aigan.generator.embedding.set_weights([np.zeros_like(aigan.generator.embedding.get_weights()[0])])
    assert watch.target_distance() < 1e-4  # rounding
    assert warnings(watch) == ""  # it may still learn
    aigan.generator_optimizer.iterations.assign(watch.PATIENCE)
    assert "ignores its target" in warnings(watch)

    advgan = build_advgan(make_config(generator_width=4, generator_blocks=1), digits, digit_classifier, 3, 2)
    advgan.generator_optimizer.iterations.assign(QuietFailures.PATIENCE)
    assert warnings(QuietFailures(advgan, batch[0])) == ""


def test_discriminator_stuck_at_one_answer_is_warned_of_once(make_aigan, batch, warnings):
    aigan = make_aigan()
    aigan.generator_optimizer.iterations.assign(QuietFailures.PATIENCE)
    watch = QuietFailures(aigan, batch[0])
    chance = 2 * math.log(2)
    assert warnings(watch, chance) == ""  # its images may be impossible to tell apart
    aigan.discriminator.head.kernel.assign(np.zeros_like(aigan.discriminator.head.kernel))
    assert warnings(watch, 1.2) == ""
    assert "stuck" in warnings(watch, chance)
    assert warnings(watch, chance) == ""
