"""Adversarial training."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from aigan_tf import build as building
from aigan_tf.classifiers import architectures
from aigan_tf.classifiers.adversarial_training import AdversarialTraining, GeneratorTraining
from aigan_tf.config import make_config
from aigan_tf.method.pgd import pgd_attack

SEEDS = tf.constant([[0, 1], [2, 3]], tf.int64)


def compiled(classifier, *arguments, **kwargs):
    trainer = AdversarialTraining(classifier, *arguments, **kwargs)
    trainer.compile(
        keras.optimizers.SGD(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return trainer


def test_half_of_a_batch_is_one_step_up_the_loss_of_the_answer(digit_classifier, batch):
    images, labels = batch
    trainer = compiled(digit_classifier, "fgsm", 0.1)
    attacked = trainer.attacked(tf.constant(images), tf.constant(labels), SEEDS).numpy()
    np.testing.assert_array_equal(attacked[8:], images[8:])
    # The classifier is linear: the gradient of the loss at an image is known in closed form.
    weights, bias = digit_classifier.layers[-1].get_weights()
    logits = images[:8].reshape(8, -1) @ weights + bias
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    gradient = (probabilities - np.eye(10)[logits.argmax(1)]) @ weights.T
    expected = np.clip(images[:8] + 0.1 * np.sign(gradient).reshape(8, 8, 8, 1), 0, 1)
    np.testing.assert_allclose(attacked[:8], expected, atol=1e-6)


def test_every_image_is_attacked_by_pgd_within_the_budget(digit_classifier, batch):
    images, labels = batch
    trainer = compiled(digit_classifier, "pgd", 0.1)
    attacked = trainer.attacked(tf.constant(images), tf.constant(labels), SEEDS).numpy()
    change = np.abs(attacked - images).max(axis=(1, 2, 3))
    assert change.max() <= 0.1 + 1e-6
    assert change.min() > 0.05
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert loss(labels, digit_classifier(attacked)) > loss(labels, digit_classifier(images))


def test_an_ensemble_also_follows_the_static_classifiers(digit_classifier, make_classifier, batch):
    images, labels = batch
    static = architectures.frozen(make_classifier(seed=3))
    trainer = compiled(digit_classifier, "ensemble", 0.1, [static])
    own = compiled(digit_classifier, "fgsm", 0.1).attacked(tf.constant(images), tf.constant(labels), SEEDS).numpy()
    answers = tf.argmax(static(images[:8]), -1, tf.int32)
    others = pgd_attack(
        static, images[:8], answers, epsilon=0.1, step_size=0.1, num_steps=1, random_start=False, targeted=False
    ).numpy()
    seen = {"own": 0, "other": 0}
    for seed in range(12):
        seeds = tf.constant([[0, 1], [2, seed]], tf.int64)
        attacked = trainer.attacked(tf.constant(images), tf.constant(labels), seeds).numpy()[:8]
        seen["own"] += np.array_equal(attacked, own[:8])
        seen["other"] += np.array_equal(attacked, others)
    assert seen["own"] + seen["other"] == 12
    assert min(seen.values()) >= 2


@pytest.mark.parametrize("defense", ["fgsm", "ensemble", "pgd"])
def test_only_the_classifier_learns(defense, make_classifier, batch):
    static = make_classifier(seed=3)
    before = static.get_weights()
    classifier = make_classifier(seed=1)
    trainer = compiled(classifier, defense, 0.1, [architectures.frozen(static)])
    assert len(trainer.trainable_variables) == len(classifier.trainable_variables)
    data = tf.data.Dataset.from_tensors(batch).repeat()
    history = trainer.fit(data, steps_per_epoch=10, epochs=4, shuffle=False, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert set(history) == {"loss", "accuracy"}
    for a, b in zip(static.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def robust_accuracy(digits, make_learner, epochs, epsilon, step_size):
    """Accuracy on real images under PGD of a classifier that was trained by what `make_learner` makes of it."""
    keras.utils.set_random_seed(0)
    model = architectures.build("small", (8, 8, 1), 10)
    learner = make_learner(model)
    learner.compile(
        keras.optimizers.Adam(2e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    images, labels = digits.train.as_float(), digits.train.labels
    learner.fit(tf.data.Dataset.from_tensor_slices((images, labels)).batch(64), epochs=epochs, shuffle=False, verbose=0)
    frozen, test_labels = architectures.frozen(model), digits.test.labels
    attacked = pgd_attack(
        frozen, tf.constant(digits.test.as_float()), tf.constant(test_labels), epsilon=epsilon, step_size=step_size,
        num_steps=10, targeted=False,
    )  # fmt: skip
    return float(np.mean(np.argmax(frozen(attacked), -1) == test_labels))


@pytest.mark.long
def test_training_against_pgd_makes_it_harder_for_pgd(digits):
    """The whole point, on real images: accuracy under attack, of a plain and of a defended classifier."""
    plain, defended = (
        robust_accuracy(digits, make_learner, epochs=6, epsilon=0.1, step_size=0.025)
        for make_learner in (lambda model: model, lambda model: AdversarialTraining(model, "pgd", 0.1))
    )
    assert defended > plain + 0.1


def opponent_of(classifier, digits):
    config = make_config(dataset="digits", epsilon=0.15, generator_width=8, generator_blocks=1)
    return building.build_aigan(config, digits, functools.partial(classifier, training=False), 100)


def test_a_generator_in_the_loop_learns_beside_the_classifier(make_classifier, digits, batch):
    images, labels = batch
    classifier = make_classifier(seed=1)
    aigan = opponent_of(classifier, digits)
    trainer = GeneratorTraining(classifier, aigan)
    trainer.compile(
        keras.optimizers.SGD(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    assert len(trainer.trainable_variables) == len(classifier.trainable_variables)
    before = [network.get_weights() for network in (aigan.generator, aigan.discriminator, classifier)]
    data = tf.data.Dataset.from_tensors(batch).repeat()
    history = trainer.fit(data, steps_per_epoch=10, epochs=2, shuffle=False, verbose=0).history
    assert set(history) == {"loss", "accuracy", "generator_success_rate", "discriminator_loss"}
    for network, weights in zip((aigan.generator, aigan.discriminator, classifier), before, strict=True):
        assert any(not np.array_equal(a, b) for a, b in zip(network.get_weights(), weights, strict=True))
    assert int(aigan.generator_optimizer.iterations) == 20
    attacked = trainer.attacked(tf.constant(images), tf.constant(labels), SEEDS).numpy()
    start = aigan(images, aigan.choose_targets(tf.constant(labels), SEEDS[0]))
    with tf.GradientTape() as tape:
        tape.watch(start)
        loss = keras.losses.sparse_categorical_crossentropy(labels, classifier(start, training=False), from_logits=True)
    moved = np.clip(start + 0.15 * np.sign(tape.gradient(loss, start)), 0, 1)
    np.testing.assert_allclose(attacked, np.clip(moved, images - 0.15, images + 0.15), atol=1e-6)
    assert np.abs(start - images).max() > 1e-3


@pytest.mark.long
def test_training_against_a_generator_makes_it_harder_for_pgd_too(digits):
    """What the defence is for: accuracy under an attack that took no part in the training."""
    plain, defended = (
        robust_accuracy(digits, make_learner, epochs=5, epsilon=0.15, step_size=0.04)
        for make_learner in (lambda model: model, lambda model: GeneratorTraining(model, opponent_of(model, digits)))
    )
    assert defended > plain + 0.1
