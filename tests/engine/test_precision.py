"""Mixed precision: bfloat16 by the graph on a CPU, float16 with loss scaling on a GPU."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from aigan_tf import build
from aigan_tf.classifiers import architectures
from aigan_tf.config import make_config
from aigan_tf.data.batches import evaluation_batches, training_batches
from aigan_tf.engine import precision
from aigan_tf.engine.precision import LossScaling, MixedPrecision, has_bfloat16
from aigan_tf.method.pgd import pgd_attack

needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")

SETTINGS = dict(dataset="digits", batch_size=32, attack_steps=2, generator_width=4, generator_blocks=1)


@needs_bfloat16
def test_mixed_precision_computes_a_convolution_in_bfloat16():
    kernel = tf.random.stateless_normal((3, 3, 16, 16), (0, 1))
    images = tf.random.stateless_uniform((8, 16, 16, 16), (0, 2))
    convolve = tf.function(lambda x: tf.nn.conv2d(tf.nn.conv2d(x, kernel, 1, "SAME"), kernel, 1, "SAME"))
    exact = convolve(images)
    with MixedPrecision(True) as mixed:
        rounded = convolve(images)
        for over in (mixed.on_test_begin, lambda: mixed.on_epoch_end(0)):
            over()
            np.testing.assert_array_equal(convolve(images), exact)
            mixed.on_epoch_begin(1)
            np.testing.assert_array_equal(convolve(images), rounded)
    np.testing.assert_array_equal(convolve(images), exact)
    difference = float(tf.norm(rounded - exact) / tf.norm(exact))
    assert 1e-4 < difference < 0.02
    with MixedPrecision(False) as mixed:
        np.testing.assert_array_equal(convolve(images), exact)
        mixed.on_epoch_begin(0)
        np.testing.assert_array_equal(convolve(images), exact)


def test_a_cpu_without_bfloat16_computes_in_float32(monkeypatch, capsys):
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    with MixedPrecision(True):
        assert not tf.config.optimizer.get_experimental_options().get("auto_mixed_precision_onednn_bfloat16")
    assert "float32" in capsys.readouterr().out


def test_mixed_precision_keeps_the_attacker_within_epsilon(make_classifier):
    """bfloat16 resolves bright pixels to an eighth of 8/255: the attacker's sums must stay in float32."""
    classifier = architectures.frozen(make_classifier())
    images, targets = tf.random.stateless_uniform((16, 8, 8, 1), (0, 1)), tf.zeros((16,), tf.int32)
    attack = tf.function(
        lambda x: pgd_attack(classifier, x, targets, epsilon=8 / 255, step_size=4 / 255, num_steps=3, seed=(0, 2))
    )
    exact = attack(images)
    with MixedPrecision(True):
        rounded = attack(images)
    for adversarial_images in (exact, rounded):
        assert float(tf.reduce_max(tf.abs(adversarial_images - images))) <= 8 / 255 + 1e-6
    if has_bfloat16():
        assert np.any(exact != rounded)  # its gradients were bfloat16's


@pytest.fixture
def float16(monkeypatch):
    """Mixed precision as on a GPU; a CPU computes float16 too, only slowly."""
    monkeypatch.setattr(precision, "computes_in_float16", lambda: True)


@pytest.fixture
def batch(digits):
    return tf.constant(digits.train.as_float()[:32]), tf.constant(digits.train.labels[:32])


@pytest.mark.parametrize("overflowing", ["generator", "discriminator"])
def test_an_overflow_skips_the_step_of_its_network_alone(overflowing, make_aigan, batch):
    optimizers = {
        name: LossScaling(keras.optimizers.SGD(0.1), initial_scale=scale)
        for name, scale in (("generator", 8.0), ("discriminator", 8.0), (overflowing, 3e38))
    }
    weights = {"gan_weight": 10.0, "hinge_weight": 10.0}
    aigan = make_aigan(**{f"{name}_optimizer": optimizer for name, optimizer in optimizers.items()}, **weights)
    aigan.discriminator.head.kernel.assign(100.0 * aigan.discriminator.head.kernel)  # gradients far above 1
    before = {name: [v.numpy() for v in getattr(aigan, name).trainable_variables] for name in optimizers}
    for _ in range(2):
        aigan.train_step(batch)
    for name, optimizer in optimizers.items():
        after = getattr(aigan, name).trainable_variables
        moved = any(np.any(a != b.numpy()) for a, b in zip(before[name], after, strict=True))
        assert moved == (name != overflowing)
        assert float(optimizer.dynamic_scale) == pytest.approx(3e38 / 4 if name == overflowing else 8.0)
        assert int(optimizer.iterations) == (0 if name == overflowing else 2)


def test_a_loss_scale_keeps_small_gradients_of_float16(float16, make_aigan, batch):
    """Both networks' losses times a millionth: float16 knows nothing below 6e-8."""

    def step(scale):
        first, second = (LossScaling(keras.optimizers.SGD(1.0), initial_scale=scale) for _ in range(2))
        aigan = make_aigan(generator_optimizer=first, discriminator_optimizer=second)
        kernels = aigan.generator.stem.conv.kernel, aigan.discriminator.convs[0].kernel
        before = [kernel.numpy() for kernel in kernels]
        with MixedPrecision(True, (aigan.generator, aigan.discriminator)):
            aigan.train_step(batch)
        return [kernel.numpy() - was for kernel, was in zip(kernels, before, strict=True)]

    exact = step(1.0)
    for kept, lost, expected in zip(step(2.0**12), step(2.0**-20), exact, strict=True):
        assert np.linalg.norm(kept - expected) < 0.05 * np.linalg.norm(expected)
        assert np.linalg.norm(lost - expected) > 0.5 * np.linalg.norm(expected)


def test_float16_trains_networks_that_measure_in_float32(float16, digits, make_classifier):
    config = make_config(**SETTINGS, mixed_precision=True)
    aigan = build.build_aigan(config, digits, architectures.frozen(make_classifier()), 40)
    assert isinstance(aigan.generator_optimizer, LossScaling)
    assert isinstance(aigan.discriminator_optimizer, LossScaling)
    networks = aigan.generator, aigan.discriminator
    convolutions = [layer for network in networks for layer in network._flatten_layers() if hasattr(layer, "kernel")]
    dtypes = {}

    def watch(phase):
        return lambda batch, logs: dtypes.update({phase: {layer.compute_dtype for layer in convolutions}})

    watching = keras.callbacks.LambdaCallback(on_train_batch_end=watch("train"), on_test_batch_end=watch("test"))
    with MixedPrecision(True, networks) as mixed:
        history = aigan.fit(
            training_batches(digits.train, config.batch_size, 0),
            steps_per_epoch=10, epochs=4, shuffle=False, verbose=0,
            validation_data=evaluation_batches(digits.validation, 500),
            callbacks=[watching, mixed],
        ).history  # fmt: skip
    assert dtypes == {"train": {"float16"}, "test": {"float32"}}
    assert {layer.compute_dtype for layer in convolutions} == {"float32"}
    assert {variable.dtype for network in networks for variable in network.variables} == {"float32"}
    assert history["generator_loss"][-1] < history["generator_loss"][0]
    assert np.isfinite([value for values in history.values() for value in values]).all()
    assert max(history["perturbation_linf"]) <= config.epsilon * (1 + 1e-3)
    measured = aigan.evaluate(evaluation_batches(digits.validation, 500), return_dict=True, verbose=0)
    for name, value in measured.items():
        assert history[f"val_{name}"][-1] == pytest.approx(value, rel=1e-5)
