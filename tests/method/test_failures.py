"""Warnings about a GAN that fails without an error: each once, and only if it lasts."""

import math

import numpy as np
import pytest

from aigan_tf.build import build_advgan
from aigan_tf.config import make_config
from aigan_tf.method.failures import QuietFailures


@pytest.fixture
def warned(capsys):
    """Returns how often a word was printed since the last call."""
    return lambda word: capsys.readouterr().out.count(word)


def end_epoch(watch, epoch, discriminator_loss=1.0):
    watch.on_epoch_end(epoch, {"discriminator_loss": discriminator_loss})


def test_collapsed_discriminator_is_warned_of_once(make_aigan, batch, warned):
    watch = QuietFailures(make_aigan(), batch[0])
    end_epoch(watch, 0, 0.3)
    assert warned("collapsed") == 0
    for epoch in (1, 2):
        end_epoch(watch, epoch, 1e-5)
    assert warned("collapsed") == 1


def test_generator_that_ignores_its_target_is_warned_of(make_aigan, batch, warned):
    aigan = make_aigan()
    watch = QuietFailures(aigan, batch[0])
    assert watch.target_distance() > 0.1
    aigan.generator.embedding.set_weights([np.zeros_like(aigan.generator.embedding.get_weights()[0])])
    assert watch.target_distance() < 1e-4  # rounding
    end_epoch(watch, 0)
    assert warned("ignores") == 0  # it may still learn
    aigan.generator_optimizer.iterations.assign(watch.PATIENCE)
    end_epoch(watch, 1)
    assert warned("ignores its target") == 1


def test_discriminator_stuck_at_one_answer_is_warned_of(make_aigan, batch, warned):
    aigan = make_aigan()
    aigan.generator_optimizer.iterations.assign(QuietFailures.PATIENCE)
    watch = QuietFailures(aigan, batch[0])
    chance = 2 * math.log(2)
    end_epoch(watch, 0, chance)
    assert warned("stuck") == 0  # its images may be impossible to tell apart
    aigan.discriminator.head.kernel.assign(np.zeros_like(aigan.discriminator.head.kernel))
    end_epoch(watch, 1, 1.2)
    assert warned("stuck") == 0
    for epoch in (2, 3):
        end_epoch(watch, epoch, chance)
    assert warned("stuck") == 1


def test_generator_of_one_target_cannot_ignore_it(digits, digit_classifier, batch, warned):
    advgan = build_advgan(make_config(generator_width=4, generator_blocks=1), digits, digit_classifier, 3, 2)
    advgan.generator_optimizer.iterations.assign(QuietFailures.PATIENCE)
    watch = QuietFailures(advgan, batch[0])
    end_epoch(watch, 0)
    assert warned("Warning") + warned("WARNING") == 0
    end_epoch(watch, 1, 1e-5)
    assert warned("collapsed") == 1
