"""Adversarial training of a classifier trained here, and of a user's own (hardening)."""

import functools
import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from aigan_tf.build import build_aigan
from aigan_tf.classifiers import architectures
from aigan_tf.classifiers.adversarial_training import AdversarialTraining, GeneratorTraining
from aigan_tf.classifiers.training import hardened_classifier
from aigan_tf.config import make_config
from aigan_tf.engine.checkpoints import Checkpoint
from aigan_tf.errors import InputError
from aigan_tf.evaluation import compare
from aigan_tf.training.run import train_and_export
from aigan_tf.workdir import Workdir

SEEDS = tf.constant([[0, 1], [2, 3]], tf.int64)
SETTINGS = dict(dataset="digits", epsilon=0.15, generator_width=8, generator_blocks=1)
HARDENING = SETTINGS | dict(
    input_range=(0, 255), classifier_epochs=2, stage1_epochs=0, stage2_epochs=1, steps_per_epoch=3
)


def compiled(trainer, optimizer=None):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer.compile(optimizer or keras.optimizers.SGD(0.05), loss, metrics=["accuracy"], jit_compile=False)
    return trainer


def attacked(trainer, batch, seeds=SEEDS):
    return trainer.attacked(*map(tf.constant, batch), seeds).numpy()


def same_weights(actual, expected):
    return all(np.array_equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_fgsm_moves_half_of_a_batch_up_the_loss_of_the_predicted_class(digit_classifier, batch):
    images, _ = batch
    adversarial = attacked(AdversarialTraining(digit_classifier, "fgsm", 0.1), batch)
    np.testing.assert_array_equal(adversarial[8:], images[8:])
    # The classifier is linear: the gradient of the loss with respect to an image is known in closed form.
    weights, bias = digit_classifier.layers[-1].get_weights()
    logits = images[:8].reshape(8, -1) @ weights + bias
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    gradient = (probabilities - np.eye(10)[logits.argmax(1)]) @ weights.T
    expected = np.clip(images[:8] + 0.1 * np.sign(gradient).reshape(8, 8, 8, 1), 0, 1)
    np.testing.assert_allclose(adversarial[:8], expected, atol=1e-6)


def test_pgd_attacks_every_image_within_the_budget(digit_classifier, batch):
    images, labels = batch
    adversarial = attacked(AdversarialTraining(digit_classifier, "pgd", 0.1), batch)
    change = np.abs(adversarial - images).max(axis=(1, 2, 3))
    assert change.max() <= 0.1 + 1e-6
    assert change.min() > 0.05
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert loss(labels, digit_classifier(adversarial)) > loss(labels, digit_classifier(images))


def test_an_ensemble_also_follows_the_static_classifiers(digit_classifier, make_classifier, batch):
    static = architectures.frozen(make_classifier(seed=3))
    trainer = AdversarialTraining(digit_classifier, "ensemble", 0.1, [static])
    own, other = (
        attacked(AdversarialTraining(source, "fgsm", 0.1), batch)[:8] for source in (digit_classifier, static.func)
    )
    drawn = [attacked(trainer, batch, tf.constant([[0, 1], [2, seed]], tf.int64))[:8] for seed in range(12)]
    seen = [sum(np.array_equal(images, source) for images in drawn) for source in (own, other)]
    assert sum(seen) == 12
    assert min(seen) >= 2


@pytest.mark.parametrize("defense", ["fgsm", "ensemble", "pgd"])
def test_only_the_classifier_learns(defense, make_classifier, batch):
    static, classifier = make_classifier(seed=3), make_classifier(seed=1)
    before = static.get_weights()
    trainer = compiled(AdversarialTraining(classifier, defense, 0.1, [architectures.frozen(static)]))
    assert len(trainer.trainable_variables) == len(classifier.trainable_variables)
    history = fitted(trainer, batch, epochs=4)
    assert history["loss"][-1] < history["loss"][0]
    assert set(history) == {"loss", "accuracy"}
    assert same_weights(static.get_weights(), before)

    trainer = compiled(AdversarialTraining(classifier, defense, 0.1, [architectures.frozen(static)]))
    trainer.attacked = lambda images, *_: images * np.nan
    assert np.isnan(fitted(trainer, batch, epochs=1)["loss"])  # it is these images that it learns from


def fitted(trainer, batch, epochs):
    data = tf.data.Dataset.from_tensors(batch).repeat()
    return trainer.fit(data, steps_per_epoch=10, epochs=epochs, shuffle=False, verbose=0).history


def generator_training(classifier, digits):
    aigan = build_aigan(make_config(**SETTINGS), digits, functools.partial(classifier, training=False), 100)
    return GeneratorTraining(classifier, aigan)


def test_a_generator_learns_beside_the_classifier(make_classifier, digits, batch):
    images, labels = batch
    classifier = make_classifier(seed=1)
    trainer = compiled(generator_training(classifier, digits))
    aigan = trainer.aigan
    assert len(trainer.trainable_variables) == len(classifier.trainable_variables)
    networks = (aigan.generator, aigan.discriminator, classifier)
    before = [network.get_weights() for network in networks]
    history = fitted(trainer, batch, epochs=2)
    assert set(history) == {"loss", "accuracy", "generator_success_rate", "discriminator_loss"}
    for network, weights in zip(networks, before, strict=True):
        assert not same_weights(network.get_weights(), weights)
    assert int(aigan.generator_optimizer.iterations) == 20
    start = aigan(images, aigan.choose_targets(tf.constant(labels), SEEDS[0]))
    with tf.GradientTape() as tape:
        tape.watch(start)
        loss = keras.losses.sparse_categorical_crossentropy(labels, classifier(start, training=False), from_logits=True)
    moved = np.clip(start + 0.15 * np.sign(tape.gradient(loss, start)), 0, 1)
    np.testing.assert_allclose(attacked(trainer, batch), np.clip(moved, images - 0.15, images + 0.15), atol=1e-6)
    assert np.abs(start - images).max() > 1e-3


@pytest.fixture(scope="module")
def own(digits, tmp_path_factory):
    """The path of a trained classifier with a softmax, of pixels in 0 to 255."""
    keras.utils.set_random_seed(0)
    body = [layers.Conv2D(8, 3, activation="relu"), layers.BatchNormalization(), layers.Flatten()]
    top = layers.Dense(10, activation="softmax")
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Rescaling(1 / 255), *body, top])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(digits.train.as_float() * 255, digits.train.labels, epochs=5, verbose=0)
    path = tmp_path_factory.mktemp("own") / "own.keras"
    model.save(path)
    return path


@pytest.mark.long
def test_a_hardened_classifier_is_the_same_model_with_other_weights(own, digits, tmp_path):
    given = hashlib.sha256(own.read_bytes()).hexdigest()
    report = train_and_export(make_config(**HARDENING, classifier=str(own), defense="pgd"), tmp_path / "run")
    assert hashlib.sha256(own.read_bytes()).hexdigest() == given
    before, after = (keras.models.load_model(path) for path in (own, tmp_path / "run" / "classifier.keras"))
    assert after.layers[-1].activation is keras.activations.softmax
    assert any(not np.allclose(a, b) for a, b in zip(before.get_weights(), after.get_weights(), strict=True))
    answers = after.predict(digits.test.as_float() * 255, verbose=0).argmax(-1)
    assert report["clean_accuracy"] == pytest.approx(np.mean(answers == digits.test.labels))
    # What is attacked, and measured again, is the hardened one.
    again = compare.evaluate_workdir(str(tmp_path / "run"))["attacks"]["aigan"]
    for name in ("clean_accuracy", "success_rate"):
        assert again[name] == report[name]


@pytest.mark.long
def test_a_killed_hardening_ends_bit_for_bit_as_an_uninterrupted_one(own, digits, tmp_path, monkeypatch):
    config = make_config(**HARDENING, classifier=str(own), defense="aigan")
    whole, killed = Workdir(tmp_path / "whole"), Workdir(tmp_path / "killed")
    hardened_classifier(config, digits, whole)
    saved = Checkpoint.on_epoch_end

    def stop(*arguments):
        saved(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            hardened_classifier(config, digits, killed)
    assert not killed.classifier.exists()
    hardened_classifier(config, digits, killed)
    assert same_weights(*(keras.models.load_model(folder.classifier).get_weights() for folder in (whole, killed)))


@pytest.mark.parametrize(("name", "problem"), [("saved_model", "SavedModel"), ("fixed.keras", "no trainable weights")])
def test_an_untrainable_classifier_is_refused_before_a_folder_is_made(name, problem, digit_classifier, tmp_path):
    model = keras.models.clone_model(digit_classifier)
    if name == "saved_model":
        model.export(tmp_path / name, verbose=False)
    else:
        model.trainable = False
        model.save(tmp_path / name)
    config = make_config(**HARDENING, classifier=str(tmp_path / name), defense="aigan")
    with pytest.raises(InputError) as caught:
        train_and_export(config, tmp_path / "run")
    assert caught.value.setting == "classifier"
    assert problem in caught.value.problem
    assert not (tmp_path / "run").exists()
