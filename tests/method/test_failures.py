"""Warnings about a GAN that fails without an error: each once, and only if it lasts."""

import math

import numpy as np
import pytest

from aigan_tf.method.failures import QuietFailures


@pytest.fixture
def warnings(capsys):
    """Ends an epoch with a loss of the discriminator, a success rate and an L2 norm, and returns what was printed."""

    def end_epoch(watch, discriminator_loss=1.0, success=0.9, l2=1.0):
        name = watch.aigan.success_rate.name
        logs = {"discriminator_loss": discriminator_loss, f"val_{name}": success, "val_perturbation_l2": l2}
        watch.on_epoch_end(0, logs)
        return capsys.readouterr().out

    return end_epoch


def test_generator_that_ignores_its_target_is_warned_of(make_aigan, batch, warnings):
    aigan = make_aigan()
    watch = QuietFailures(aigan, batch[0])
    assert watch.target_distance() > 0.1
    aigan.generator.embedding.set_weights([np.zeros_like(aigan.generator.embedding.get_weights()[0])])
    assert watch.target_distance() < 1e-4  # rounding
    assert warnings(watch) == ""  # it may still learn
    aigan.generator_optimizer.iterations.assign(watch.PATIENCE)
    assert "ignores its target" in warnings(watch)


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


def test_attacks_that_do_not_succeed_are_warned_of(make_aigan, batch, warnings):
    aigan = make_aigan()
    watch = QuietFailures(aigan, batch[0])
    assert warnings(watch, success=0.1) == ""
    aigan.generator_optimizer.iterations.assign(watch.HOPELESS)
    assert warnings(watch, success=0.3) == ""
    assert "do not succeed" in warnings(watch, success=0.15)  # of ten classes
    aigan.num_classes = 2  # most attacks may succeed and yet not all
    watch = QuietFailures(aigan, batch[0])
    assert warnings(watch, success=0.5) == ""
    assert "do not succeed" in warnings(watch, success=0.2)


def test_perturbations_that_fade_are_warned_of(make_aigan, batch, warnings):
    watch = QuietFailures(make_aigan(), batch[0])
    assert warnings(watch, success=0.4, l2=2.0) == ""
    assert warnings(watch, success=0.4, l2=1.5) == ""
    assert warnings(watch, success=0.9, l2=0.5) == ""  # that is what stage 2 is for
    assert "fades" in warnings(watch, success=0.4, l2=0.5)
