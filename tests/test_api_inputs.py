"""What the Python API takes: settings that editors know, callbacks, pictures, and tensors of a graph."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import aigan_tf
from aigan_tf import api, trained_generator
from aigan_tf.config import Config
from aigan_tf.errors import InputError
from aigan_tf.training import generator as generator_training

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TINY = dict(
    epsilon=0.3, steps_per_epoch=1, stage1_epochs=1, stage2_epochs=1, switch_success=1.0, batch_size=16, attack_steps=1,
    generator_width=4, generator_blocks=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def fit(digit_classifier, digits):
    images, labels = digits.train.as_float()[:200], digits.train.labels[:200]
    return lambda **given: aigan_tf.fit_generator(digit_classifier, images, labels, **{**TINY, **given})


@pytest.fixture(scope="module")
def generator(fit):
    return fit(class_names=NAMES, variable_epsilon=True, stage1_epochs=0, stage2_epochs=1)


@pytest.fixture(scope="module")
def images(digits):
    return digits.test.as_float()[:4]


def refused(setting, call, *arguments, **named):
    with pytest.raises(InputError) as caught:
        call(*arguments, **named)
    assert caught.value.setting == setting
    return caught.value


def test_settings_that_editors_know_are_those_of_a_run():
    expected = {
        field.name: field.type
        for field in dataclasses.fields(Config)
        if field.metadata["setting"].group not in ("data", "classifier") or field.name in ("flip", "max_shift")
    }
    del expected["epsilon"]
    expected["target_classes"] = Sequence[int | str] | None  # numbers as they are too
    assert api.Settings.__annotations__ == expected


class Recorder(keras.callbacks.Callback):
    """Keeps the stage and the logs of each epoch."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.stage = self.model.stage

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append((self.stage, dict(logs)))


def test_callbacks_see_both_stages_and_all_metrics_quietly(fit, capsys):
    recorder = Recorder()
    fit(callbacks=[recorder], verbose=0)
    assert [stage for stage, _ in recorder.epochs] == [1, 2]
    losses = {"generator_loss", "adversarial_loss", "gan_loss", "hinge_loss"}
    both = losses | {"targeted_success_rate", "perturbation_l2", "perturbation_linf", "hinge_active"}
    for _, logs in recorder.epochs:
        assert logs.keys() == both | {f"val_{name}" for name in both} | {"discriminator_loss"}
    assert capsys.readouterr().out == ""


def test_early_stopping_ends_training_and_restores_the_best_weights(fit, images, capsys):
    early = keras.callbacks.EarlyStopping(
        "val_generator_loss", mode="min", min_delta=1e9, patience=1, restore_best_weights=True
    )
    recorder = Recorder()
    made = fit(callbacks=[early, recorder], stage1_epochs=3)
    assert [stage for stage, _ in recorder.epochs] == [1, 1]
    assert made.preset["stopped_after_steps"] == 2  # an export says so
    for now, best in zip(early.model.get_weights(), early.best_weights, strict=True):
        np.testing.assert_array_equal(now, best)
    assert made(images, 3).shape == images.shape
    assert "epoch 2 of 4" in capsys.readouterr().out


def test_target_classes_of_an_untargeted_attack_are_refused(fit):
    refused("target_classes", fit, attack="untargeted", target_classes=[3])


def test_answers_that_are_no_numbers_do_not_become_labels(digits):
    images = digits.train.as_float()[:40]
    images[33] = 0.0

    def classifier(x):
        bright = tf.reduce_mean(x, axis=[1, 2, 3])[:, tf.newaxis]
        return tf.where(bright == 0.0, np.nan, bright * tf.range(10.0))

    with pytest.raises(InputError, match="NaN on 1 of 40"):
        aigan_tf.fit_generator(classifier, images, **TINY)


def test_images_of_the_only_target_class_are_not_trained_on(fit, monkeypatch):
    seen = []
    monkeypatch.setattr(generator_training, "fit", lambda aigan, config, dataset, *others: seen.append(dataset))
    fit(target_classes=[3])
    assert set(seen[0].train.labels) == set(seen[0].validation.labels) | set(seen[0].train.labels) == {*range(10)} - {3}
    refused("batch_size", fit, target_classes=[3], batch_size=170)  # of 180 training images


def test_what_is_no_callback_is_refused(fit):
    for wrong in (Recorder(), [print], None):
        refused(None, fit, callbacks=wrong)


def test_one_image_gives_one_image(generator, images, tmp_path):
    expected = generator(images[:1], "two")[0]
    np.testing.assert_array_equal(generator(images[0], "two"), expected)
    pixels = np.round(images[0] * 255).astype(np.uint8)
    picture = Image.fromarray(pixels[..., 0])
    by_array = generator(pixels, 2, epsilon=0.1)
    assert by_array.shape == (8, 8, 1)
    np.testing.assert_array_equal(generator(picture, 2, epsilon=0.1), by_array)
    picture.convert("RGB").save(tmp_path / "two.png")  # the generator's images are grey
    generator.export(tmp_path / "exported")
    loaded = aigan_tf.load_generator(tmp_path / "exported")
    for path in (tmp_path / "two.png", str(tmp_path / "two.png")):
        np.testing.assert_array_equal(aigan_tf.attack(generator, path, 2, 0.1), by_array)
        np.testing.assert_allclose(aigan_tf.attack(loaded, path, 2, 0.1), by_array, atol=1e-5)


def test_a_photograph_is_turned_as_its_file_says(generator, images, tmp_path):
    picture = Image.fromarray(np.round(images[0, ..., 0] * 255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    picture.rotate(180).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(generator(tmp_path / "turned.png", 1), generator(picture, 1))


def test_pictures_that_cannot_be_read_are_refused(generator, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "float.tif")
    for name in ("missing.png", "text.png", "float.tif"):
        assert name in refused(None, generator, tmp_path / name, 1).received


def test_pixels_up_to_255_are_to_be_divided(generator, images, digit_classifier):
    assert "255" in refused(None, aigan_tf.fit_generator, digit_classifier, images * 255).fix
    assert "255" in refused(None, generator, images * 255, 1).fix
    assert "255" in refused(None, generator, np.full((1, 8, 8, 1), 200), 1).fix


def test_a_class_that_is_nearly_right_is_named(generator, images):
    for given in ("thre", "Three", "THREE"):
        assert "'three'" in refused("target_classes", generator, images, given).fix
    assert "three" not in refused("target_classes", generator, images, "xyzzy").fix


def test_a_thousand_classes_are_not_listed():
    error = refused(
        "target_classes", trained_generator._class_numbers, "c1001", [f"c{number}" for number in range(1000)]
    )
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("target", "epsilon"),
    [(3, None), ("three", 0.1), ([3, 1, 0, 2], [0.1, 0.2, 0.3, 0.1]), (["three", "one"] * 2, None)],
)
def test_attacks_in_a_graph_are_those_outside(target, epsilon, generator, images):
    expected = generator(images, target, epsilon)
    attack = tf.function(lambda images, targets: generator(images, targets, epsilon))
    for targets in (target, tf.constant(target)):
        made = attack(tf.constant(images), targets)
        assert made.shape == images.shape
        np.testing.assert_allclose(made, expected, atol=1e-6)


def test_a_dataset_is_attacked_by_map(generator, images):
    pixels = np.round(images * 255).astype(np.uint8)
    dataset = tf.data.Dataset.from_tensor_slices((pixels, np.array([3, 1, 0, 2], np.int64)))
    expected = generator(pixels, [3, 1, 0, 2])
    for form in (dataset, dataset.batch(3)):
        attacked = form.map(generator)
        assert attacked.element_spec == tf.TensorSpec(form.element_spec[0].shape, tf.float32)
        made = np.concatenate([np.reshape(batch, (-1, 8, 8, 1)) for batch in attacked.as_numpy_iterator()])
        np.testing.assert_allclose(made, expected, atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(dataset.map(lambda image, label: generator(image, label + 10)))


def test_generators_of_few_classes_are_measured_on_those_that_all_serve(digit_classifier, digits):
    class Few:
        def __init__(self, *classes):
            self.classes, self.asked = classes, set()

        def __call__(self, images, targets):
            self.asked |= set(np.asarray(targets).tolist())
            return images

    def evaluate(**attacks):
        split = digits.test.take(slice(0, 20))
        return aigan_tf.evaluate(attacks, digit_classifier, split.as_float(), split.labels, 0.3)

    one, other = Few(1, 2, 3), Few(3, 2, 5)
    evaluate(one=one, other=other, all=lambda images, targets: images)
    assert one.asked == other.asked == {2, 3}
    assert "third serves 7" in str(refused("attacks", evaluate, one=one, third=Few(7)))
