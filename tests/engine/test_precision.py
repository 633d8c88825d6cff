"""Mixed precision: bfloat16 by the graph on a CPU, float16 with loss scaling on a GPU."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from aigan_tf import build
from aigan_tf.classifiers import architectures
from aigan_tf.config import make_config
from aigan_tf.data.batches import evaluation_batches, training_batches
from aigan_tf.engine import precision
from aigan_tf.engine.precision import LossScaling, MixedPrecision
from aigan_tf.method.networks import Discriminator, Generator
from aigan_tf.method.pgd import pgd_attack

CPU_INFO = pathlib.Path("/proc/cpuinfo")
HAS_BFLOAT16 = CPU_INFO.exists() and "avx512_bf16" in CPU_INFO.read_text()
needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="this processor has no bfloat16")

SETTINGS = dict(dataset="digits", batch_size=128, attack_steps=2, generator_width=4, generator_blocks=1)


@pytest.fixture
def build_model(digits, make_classifier):
    """Builds a model for some steps, and returns it with its settings and its classifier."""

    def model(steps, **settings):
        config, classifier = make_config(**SETTINGS, **settings), architectures.frozen(make_classifier())
        return build.build_aigan(config, digits, classifier, steps), config, classifier

    return model


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


@needs_bfloat16
@pytest.mark.parametrize("validated", [True, False])
def test_callbacks_after_an_epoch_compute_in_float32(validated, digits, build_model):
    """Queries of a black box among them."""
    aigan, config, classifier = build_model(4, mixed_precision=True)
    answer = tf.function(lambda images: classifier(images))
    images = digits.train.as_float()[:64]
    answers = {"before": answer(images), "after an epoch": []}

    class Ask(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            answers["after an epoch"].append(answer(images))

        def on_train_batch_end(self, batch, logs=None):
            answers["in a step"] = answer(images)

    with MixedPrecision(True) as mixed:
        aigan.fit(
            training_batches(digits.train, config.batch_size, 0),
            steps_per_epoch=2, epochs=2, shuffle=False, verbose=0, callbacks=[mixed, Ask()],
            validation_data=evaluation_batches(digits.validation, 500) if validated else None,
        )  # fmt: skip
    for given in answers["after an epoch"]:
        np.testing.assert_array_equal(given, answers["before"])
    assert np.any(answers["in a step"] != answers["before"])


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
    if HAS_BFLOAT16:
        assert np.any(exact != rounded)  # its gradients were bfloat16's


@pytest.mark.long
@pytest.mark.parametrize("stage", [1, 2])
def test_mixed_precision_keeps_a_saturated_perturbation_in_float32(stage, build_model, digits):
    aigan, config, _ = build_model(10)
    aigan.generator.head.bias.assign([10.0])  # clamped to all of epsilon
    aigan.stage = stage
    batch = digits.train.as_float()[:128], tf.constant(digits.train.labels[:128])
    step = tf.function(aigan.train_step)
    with MixedPrecision(True):
        for _ in range(20):  # a sum in bfloat16 would stand still by now
            logs = step(batch)
    assert float(logs["perturbation_linf"]) == pytest.approx(config.epsilon, abs=1e-6)
    brightened = np.minimum(config.epsilon, 1.0 - batch[0])
    norms = np.linalg.norm(brightened.reshape(128, -1), axis=1)
    assert float(logs["perturbation_l2"]) == pytest.approx(norms.mean(), rel=1e-4)


def test_an_interruption_leaves_no_mixed_precision_behind():
    with pytest.raises(KeyboardInterrupt), MixedPrecision(True):
        raise KeyboardInterrupt
    assert not tf.config.optimizer.get_experimental_options()["auto_mixed_precision_onednn_bfloat16"]


@pytest.fixture
def float16(monkeypatch):
    """Mixed precision as on a GPU; a CPU computes float16 too, only slowly."""
    monkeypatch.setattr(precision, "computes_in_float16", lambda: True)


@pytest.fixture
def batch(digits):
    return tf.constant(digits.train.as_float()[:32]), tf.constant(digits.train.labels[:32])


def compiled(make_aigan, scale=None, rate=0.1):
    """Returns a model trained by SGD, with loss scales that begin at `scale`."""
    optimizers = [keras.optimizers.SGD(rate) for _ in range(2)]
    if scale:
        optimizers = [LossScaling(optimizer, initial_scale=scale) for optimizer in optimizers]
    return make_aigan(generator_optimizer=optimizers[0], discriminator_optimizer=optimizers[1])


def weights_of(aigan):
    return [variable.numpy() for variable in aigan.generator.variables + aigan.discriminator.variables]


@pytest.mark.parametrize("scale", [2.0**-3, 2.0**15])
def test_a_loss_scale_changes_neither_networks_step(scale, make_aigan, batch):
    fresh, plain, scaled = compiled(make_aigan), compiled(make_aigan), compiled(make_aigan, scale)
    for aigan in (plain, scaled):
        aigan.train_step(batch)
    for expected, found in zip(weights_of(plain), weights_of(scaled), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert any(np.any(a != b) for a, b in zip(weights_of(fresh), weights_of(plain), strict=True))


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
        aigan = compiled(make_aigan, scale, rate=1.0)
        kernels = aigan.generator.stem.conv.kernel, aigan.discriminator.convs[0].kernel
        before = [kernel.numpy() for kernel in kernels]
        with MixedPrecision(True, (aigan.generator, aigan.discriminator)):
            aigan.train_step(batch)
        return [kernel.numpy() - was for kernel, was in zip(kernels, before, strict=True)]

    exact = step(1.0)
    for kept, lost, expected in zip(step(2.0**12), step(2.0**-20), exact, strict=True):
        assert np.linalg.norm(kept - expected) < 0.05 * np.linalg.norm(expected)
        assert np.linalg.norm(lost - expected) > 0.5 * np.linalg.norm(expected)


def test_float16_trains_networks_that_measure_in_float32(float16, build_model, digits):
    aigan, config, _ = build_model(40, mixed_precision=True)
    assert isinstance(aigan.generator_optimizer, LossScaling)
    assert isinstance(aigan.discriminator_optimizer, LossScaling)
    networks = aigan.generator, aigan.discriminator
    convolutions = [layer for network in networks for layer in network._flatten_layers() if hasattr(layer, "kernel")]
    seen = []

    def watch(phase):
        return lambda batch, logs: seen.append((phase, {layer.compute_dtype for layer in convolutions}))

    watching = keras.callbacks.LambdaCallback(on_train_batch_end=watch("train"), on_test_batch_end=watch("test"))
    images = digits.validation.as_float()[:4]
    with MixedPrecision(True, networks) as mixed:
        rounded = aigan(images, tf.zeros(4, tf.int32))
        history = aigan.fit(
            training_batches(digits.train, config.batch_size, 0),
            steps_per_epoch=10, epochs=4, shuffle=False, verbose=0,
            validation_data=evaluation_batches(digits.validation, 500),
            callbacks=[watching, mixed],
        ).history  # fmt: skip
    assert dict(seen) == {"train": {"float16"}, "test": {"float32"}}
    assert len(convolutions) > 8
    assert {layer.compute_dtype for layer in convolutions} == {"float32"}
    assert {variable.dtype for network in networks for variable in network.variables} == {"float32"}
    assert rounded.dtype == tf.float32
    assert history["generator_loss"][-1] < history["generator_loss"][0]
    assert np.isfinite([value for values in history.values() for value in values]).all()
    assert max(history["perturbation_linf"]) <= config.epsilon * (1 + 1e-3)
    measured = aigan.evaluate(evaluation_batches(digits.validation, 500), return_dict=True, verbose=0)
    for name, value in measured.items():
        assert history[f"val_{name}"][-1] == pytest.approx(value, rel=1e-5)


def test_float16_is_near_float32(float16):
    images, targets = tf.random.stateless_uniform((4, 16, 16, 3), (0, 1)), tf.range(4)
    keras.utils.set_random_seed(0)
    for network, arguments in ((Generator(4, 3, 8), (images, targets)), (Discriminator(3, 8), (images,))):
        for training in (False, True):
            exact = network(*arguments, training=training)
            with MixedPrecision(True, [network]):
                rounded = network(*arguments, training=training)
            difference = float(tf.norm(rounded - exact) / tf.norm(exact))
            assert 1e-6 < difference < 0.02


def test_bfloat16_needs_no_loss_scale(build_model):
    assert not isinstance(build_model(40, mixed_precision=True)[0].generator_optimizer, LossScaling)
