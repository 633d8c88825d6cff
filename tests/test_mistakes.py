"""Mistakes that users make often: each error names what was given, and ends in the step that cures it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from commands import run_in_process
from keras import layers

import aigan_tf
from aigan_tf import cli
from aigan_tf.errors import InputError
from aigan_tf.trained_generator import TrainedGenerator


@pytest.fixture(scope="module")
def generator():
    """One of grey digits, which changes nothing."""

    @tf.function
    def serve(images, target_class):
        return {"adversarial_images": images}

    specs = {"images": tf.TensorSpec(None, tf.float32), "target_class": tf.TensorSpec(None, tf.int32)}
    signatures = {"serving_default": serve.get_concrete_function(**specs)}
    return TrainedGenerator(signatures, [f"digit {number}" for number in range(10)], None, None, (8, 8, 1))


def step(error):
    """The last part of an error's line."""
    return str(error).rpartition("; ")[2]


def as_rgba(images):
    return np.repeat(images, 4, axis=-1)


IMAGES = {  # change of the images: a word of the error, and the step
    "RGBA": (as_rgba, "8, 4", "images[..., :3].mean(-1, keepdims=True)"),
    "a path": (lambda images: "digit.png", "images", "PIL.Image.open"),
    "paths": (lambda images: ["digit.png", "other.png"], "images", "PIL.Image.open"),
    "0 to 255": (lambda images: images * 255, "255", "images / 255"),
    "-1 to 1": (lambda images: images * 2 - 1, "-1", "(images + 1) / 2"),
    "one": (lambda images: images[0], "(8, 8, 1)", "images[None]"),
    "no channels": (lambda images: images[..., 0], "8, 8)", "images[..., None]"),
    "channels first": (lambda images: np.moveaxis(images, -1, 1), "1, 8, 8)", "np.moveaxis(images, 1, -1)"),
}


@pytest.mark.parametrize("mistake", IMAGES)
def test_images_that_do_not_fit(mistake, generator, digit_classifier, digits):
    change, word, expected = IMAGES[mistake]
    given = change(digits.test.as_float()[:30])
    calls = {
        "fit_generator": lambda: aigan_tf.fit_generator(digit_classifier, given, digits.test.labels[:30]),
        "evaluate": lambda: aigan_tf.evaluate(generator, digit_classifier, given, digits.test.labels[:30], 0.3),
        "attack": lambda: aigan_tf.attack(generator, given, 3),
    }
    if mistake in ("a path", "one", "-1 to 1"):  # one picture is taken there, and the graph refuses the range
        del calls["attack"]
    for name, call in calls.items():
        with pytest.raises(InputError) as caught:
            call()
        assert word in str(caught.value), name
        assert expected in step(caught.value) or (mistake, name) == ("RGBA", "evaluate"), name
        assert "image" in str(caught.value)


def test_a_picture_that_does_not_exist_is_named(generator):
    with pytest.raises(InputError) as caught:
        aigan_tf.attack(generator, "digit.png", 3)
    assert "digit.png" in caught.value.received
    assert "path" in step(caught.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda labels: np.eye(10)[labels], "labels.argmax(-1)"),
        (lambda labels: labels + 1, "labels - 1"),
        (lambda labels: labels.astype(str), "np.unique(labels, return_inverse=True)"),
        (lambda labels: labels.astype(float), "labels.astype(int)"),
        (lambda labels: labels[:5], "one per image"),
    ],
)
def test_labels_that_do_not_fit(change, expected, generator, digit_classifier, digits):
    images, labels = digits.test.as_float()[:100], change(digits.test.labels[:100])
    for call in (
        lambda: aigan_tf.fit_generator(digit_classifier, images, labels),
        lambda: aigan_tf.evaluate(generator, digit_classifier, images, labels, 0.3),
    ):
        with pytest.raises(InputError, match="labels") as caught:
            call()
        assert expected in step(caught.value)


@pytest.mark.parametrize(
    ("change", "word", "expected"),
    [
        (lambda g, c: (lambda images, targets: images, c), "attacks", '{"mine": attack}'),
        (lambda g, c: (c, g), "attacks", "generator first"),
        (lambda g, c: (g, g), "classifier", "the model that is attacked"),
        (lambda g, c: (g, "c.keras"), "classifier", "keras.models.load_model('c.keras')"),
    ],
)
def test_a_generator_and_a_classifier_that_are_mixed_up(change, word, expected, generator, digit_classifier, digits):
    with pytest.raises(InputError, match=word) as caught:
        aigan_tf.evaluate(*change(generator, digit_classifier), digits.test.as_float(), digits.test.labels, 0.3)
    assert expected in step(caught.value)


@pytest.mark.parametrize("epsilon", [8, "8/255"])
def test_an_epsilon_that_is_no_fraction(epsilon, generator, digit_classifier, digits):
    with pytest.raises(InputError) as caught:
        aigan_tf.evaluate(generator, digit_classifier, digits.test.as_float(), digits.test.labels, epsilon)
    assert caught.value.setting == "epsilon"
    assert "8 / 255" in step(caught.value)


def test_a_class_in_another_case(generator, digits):
    with pytest.raises(InputError) as caught:
        generator(digits.test.as_float()[:1], "Digit 3")
    assert caught.value.setting == "target_classes"
    assert "'digit 3'" in step(caught.value)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--class_maps=abc", "e.g. 8"), ("--epsilon=0,03", "0.03"), ("--epsilon=8", "8/255"),
        ("--input_range=0-255", "0,255"), ("--strategy=mirrored", "leave it out"), ("--classifier=Resnet-20.", "resnet20"), ("--classifier=C:\\models\\c.keras", "path"),
        ("--classifier=~/models", "~/models/a.keras"), ("--classifier=~/lambda.keras", "registered layer"),
        ("--classifier=~/text.keras", "model.save"),
    ],
)  # fmt: skip
def test_settings_of_a_training(argument, expected, tmp_path, monkeypatch, capsys):
    if "mirrored" in argument and tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    for name in ("models/a.keras", "models/b.keras", "text.keras"):
        (tmp_path / name).write_text("no model")
    if "lambda" in argument:
        inputs = keras.Input((8, 8, 1))
        outputs = layers.Dense(10)(layers.Flatten()(layers.Lambda(lambda images: images * 2)(inputs)))
        keras.Model(inputs, outputs).save(tmp_path / "lambda.keras")
    assert run_in_process(cli.train, f"--workdir={tmp_path}/run", argument) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: {argument.partition('=')[0]}=")
    assert expected.replace("~", str(tmp_path)) in line.rpartition("; ")[2]
    assert not (tmp_path / "run").exists()
