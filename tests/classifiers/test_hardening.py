"""A classifier that was trained elsewhere is hardened: trained further under attack, in the form it came in."""

import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from aigan_tf.classifiers.loading import copy_weights_back, trainable
from aigan_tf.classifiers.training import hardened_classifier
from aigan_tf.config import make_config
from aigan_tf.engine.checkpoints import Checkpoint
from aigan_tf.errors import InputError
from aigan_tf.evaluation import compare
from aigan_tf.training import run as training
from aigan_tf.workdir import Workdir

SETTINGS = dict(
    dataset="digits",
    epsilon=0.15,
    input_range="0,255",
    classifier_epochs=2,
    generator_width=8,
    generator_blocks=1,
    stage1_epochs=0,
    stage2_epochs=1,
    steps_per_epoch=3,
)


def model_ending_in(top, images=(8, 8, 1)):
    """A classifier of pixels in 0 to 255; `top` is its last layers."""
    keras.utils.set_random_seed(0)
    body = [layers.Conv2D(8, 3, activation="relu"), layers.BatchNormalization(), layers.Flatten()]
    return keras.Sequential([keras.Input(images), layers.Rescaling(1 / 255), *body, *top])


TOPS = {
    "logits": lambda: [layers.Dense(10)],
    "dense with softmax": lambda: [layers.Dense(10, activation="softmax")],
    "softmax layer": lambda: [layers.Dense(10), layers.Softmax()],
    "softmax activation": lambda: [layers.Dense(10), layers.Activation("softmax")],
}


@pytest.fixture(scope="module")
def own(digits, tmp_path_factory):
    """The path of a trained classifier with a softmax, of pixels in 0 to 255."""
    model = model_ending_in(TOPS["dense with softmax"]())
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(digits.train.as_float() * 255, digits.train.labels, epochs=5, verbose=0)
    path = tmp_path_factory.mktemp("own") / "own.keras"
    model.save(path)
    return path


@pytest.mark.parametrize("top", TOPS)
def test_what_the_companion_learns_is_in_the_model(top, batch, tmp_path):
    path = tmp_path / "model.keras"
    model_ending_in(TOPS[top]()).save(path)
    images, labels = batch
    model, logits = trainable(str(path), images, (0.0, 255.0))
    before = model(images * 255).numpy()
    logits.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    logits.fit(images, labels, epochs=3, verbose=0)
    copy_weights_back(model, logits)
    outputs = model(images * 255).numpy()
    assert np.abs(outputs - before).max() > 1e-3
    expected = logits(images)
    np.testing.assert_allclose(outputs, expected if top == "logits" else tf.nn.softmax(expected), atol=1e-5)


def test_a_softmax_that_cannot_be_taken_off_is_trained_through_its_logarithm(batch, tmp_path):
    images, _ = batch
    inner = model_ending_in(TOPS["softmax layer"]())
    outer_images = keras.Input((8, 8, 1))
    outer = keras.Model(outer_images, inner(outer_images))  # its last layer is a whole model
    path = tmp_path / "model.keras"
    outer.save(path)
    model, logits = trainable(str(path), images, (0.0, 255.0))
    np.testing.assert_allclose(tf.nn.softmax(logits(images)), model(images * 255), atol=1e-6)


@pytest.mark.long
def test_the_work_folder_holds_the_same_model_with_other_weights(own, digits, tmp_path, capsys):
    given = hashlib.sha256(own.read_bytes()).hexdigest()
    config = make_config(**SETTINGS, classifier=str(own), defense="pgd")
    report = training.train_and_export(config, tmp_path / "run")
    assert "under attack (pgd), epochs 1 to 2" in capsys.readouterr().out
    assert hashlib.sha256(own.read_bytes()).hexdigest() == given
    before, after = (keras.models.load_model(path) for path in (own, tmp_path / "run" / "classifier.keras"))
    assert after.layers[-1].activation is keras.activations.softmax
    assert any(not np.allclose(a, b) for a, b in zip(before.get_weights(), after.get_weights(), strict=True))
    answers = after.predict(digits.test.as_float() * 255, verbose=0).argmax(-1)
    assert report["clean_accuracy"] == pytest.approx(np.mean(answers == digits.test.labels))
    # What is attacked, and measured again, is the hardened one.
    again = compare.evaluate_workdir(str(tmp_path / "run"))
    assert again["attacks"]["aigan"]["clean_accuracy"] == report["clean_accuracy"]
    assert again["attacks"]["aigan"]["success_rate"] == report["success_rate"]


@pytest.mark.long
def test_a_killed_hardening_ends_bit_for_bit_as_an_uninterrupted_one(own, digits, tmp_path, monkeypatch):
    config = make_config(**SETTINGS, classifier=str(own), defense="aigan")
    whole, killed = Workdir(tmp_path / "whole"), Workdir(tmp_path / "killed")
    hardened_classifier(config, digits, whole)
    saved = Checkpoint.on_epoch_end

    def stop(self, epoch, logs=None):
        saved(self, epoch, logs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            hardened_classifier(config, digits, killed)
    assert not killed.classifier.exists()
    hardened_classifier(config, digits, killed)
    weights = [keras.models.load_model(folder.classifier).get_weights() for folder in (whole, killed)]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_cannot_be_trained_is_refused_before_a_folder_is_made(own, tmp_path):
    model = keras.models.load_model(own)
    model.export(tmp_path / "saved_model", verbose=False)
    model.trainable = False
    model.save(tmp_path / "fixed.keras")
    for name, words in (("saved_model", ["SavedModel", ".keras file"]), ("fixed.keras", ["no trainable weights"])):
        config = make_config(**SETTINGS, classifier=str(tmp_path / name), defense="aigan")
        with pytest.raises(InputError) as refused:
            training.train_and_export(config, tmp_path / "run")
        assert all(word in str(refused.value) for word in words)
        assert not (tmp_path / "run").exists()
