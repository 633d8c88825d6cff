"""The method in a few lines of Python."""

import json
import random
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import aigan_tf
from aigan_tf import api
from aigan_tf.data import arrays
from aigan_tf.data.datasets import load
from aigan_tf.errors import InputError

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FEW = dict(
    epsilon=0.3, steps_per_epoch=40, stage1_epochs=1, stage2_epochs=4, batch_size=64, attack_steps=3, generator_width=8,
    generator_blocks=1, learning_rate=5e-3,
)  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    dataset = load("digits")
    return dataset.train.as_float(), dataset.train.labels, dataset.test.as_float(), dataset.test.labels


@pytest.fixture(scope="module")
def classifier(digits):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(64, "relu"),
         layers.Dense(10, "softmax")]
    )  # fmt: skip
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(digits[0] * 255, digits[1], epochs=12, verbose=0)
    return model


@pytest.fixture(scope="module")
def generator(classifier, digits):
    return aigan_tf.fit_generator(
        classifier, digits[0], digits[1], input_range=(0, 255), class_names=NAMES, variable_epsilon=True, **FEW
    )


def success(classifier, adversarial, targets):
    return float(np.mean(np.argmax(classifier(adversarial * 255), axis=1) == targets))


def test_two_calls_make_a_classifier_answer_the_targets(generator, classifier, digits):
    before = [weight.copy() for weight in classifier.get_weights()]
    images, labels = digits[2], digits[3]
    targets = (labels + 3) % 10
    adversarial = aigan_tf.attack(generator, images, targets)
    assert adversarial.dtype == np.float32
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert np.abs(adversarial - images).max() <= 0.3 + 1e-6
    assert success(classifier, adversarial, targets) > 0.6
    assert success(classifier, images, targets) < 0.1
    for a, b in zip(classifier.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_class_is_a_number_or_a_name_for_one_image_or_all(generator, digits):
    images = digits[2][:3]
    by_number = generator(images, [7, 2, 0])
    np.testing.assert_array_equal(generator(images, ["seven", "two", "zero"]), by_number)
    np.testing.assert_array_equal(generator(images, "two"), generator(images, 2))
    np.testing.assert_array_equal(generator(images, ["7", "two", 0]), by_number)
    np.testing.assert_array_equal(generator(images, tf.constant(["seven", "two", "zero"])), by_number)
    for wrong in ("ten", 2.9, 2**32, ["seven", None, 1]):
        with pytest.raises(InputError, match=r"target_classes has .*; expected one of zero, one"):
            generator(images, wrong)
    for shape in ([1, 2], [1, 2, 3, 4], [[1], [2], [3]]):
        with pytest.raises(
            InputError, match=r"target_classes have the shape .*; expected one class, or one for each of 3"
        ):
            generator(images, np.array(shape))


@pytest.mark.parametrize(
    ("images", "target", "words"),
    [
        (lambda x: x, 10, "refuses this: target_class must lie in"),
        (lambda x: x * 255, 1, r"refuses this: images .*\[0, 1\]"),
        (lambda x: x * np.nan, 1, "refuses this: images .*NaN"),
        (lambda x: x[0], [1] * 8, "refuses this: images must"),
        (lambda x: x[:, :7], 1, "refuses this: images must"),
        (lambda x: x[:0], 1, "refuses this: the batch must hold at least one image"),
        (lambda x: "digits.png", 1, "images are no array of numbers"),
        (lambda x: [x[0], x[0, :7]], 1, "images are no array of numbers"),
    ],
)
def test_what_cannot_be_attacked_is_named_in_one_line(images, target, words, generator, digits):
    with pytest.raises(InputError, match=words) as caught:
        generator(images(digits[2][:3]), target)
    assert len(str(caught.value)) < 300


def test_what_is_no_generator_is_named(classifier, digits):
    for wrong in (classifier, None):
        with pytest.raises(InputError, match=r"the generator is a \w+; expected one from fit_generator"):
            aigan_tf.attack(wrong, digits[2], 1)
    with pytest.raises(InputError, match="batch_size=0"):
        aigan_tf.load_generator("pretrained/mnist")(np.zeros((1, 28, 28, 1)), 1, batch_size=0)


def test_batches_and_bytes_change_nothing(generator, digits):
    images = np.round(digits[2][:5] * 255).astype(np.uint8)
    whole = generator(images.astype(np.float32) / 255, 1)
    np.testing.assert_allclose(generator(images, 1, batch_size=2), whole, atol=1e-6)


def test_a_smaller_epsilon_is_kept(generator, digits):
    images = digits[2][:4]
    assert np.abs(aigan_tf.attack(generator, images, 1, epsilon=0.1) - images).max() == pytest.approx(0.1, abs=1e-5)


def test_each_image_may_have_its_own_epsilon(generator, digits):
    images, budgets = digits[2][:3], [0.05, 0.3, 0.1]
    moved = np.abs(aigan_tf.attack(generator, images, 1, epsilon=budgets) - images).max(axis=(1, 2, 3))
    np.testing.assert_allclose(moved, budgets, atol=1e-5)


@pytest.mark.parametrize(
    ("epsilon", "words"),
    [
        ([0.1, 0.2], "each of 3 images"),
        ("much", "a number"),
        (0.31, "epsilon"),
        (0.0, "epsilon"),
        (float("nan"), "epsilon"),
    ],
)
def test_an_epsilon_that_does_not_fit_is_refused(generator, digits, epsilon, words):
    with pytest.raises(InputError, match=words):
        aigan_tf.attack(generator, digits[2][:3], 1, epsilon=epsilon)


def test_a_text_for_an_epsilon_is_refused_for_two_images_too(generator, digits):
    with pytest.raises(InputError, match="a number"):
        aigan_tf.attack(generator, digits[2][:2], 1, epsilon="much")


def test_an_exported_generator_is_loaded_with_its_names(generator, digits, tmp_path):
    assert generator.export(tmp_path / "generator") == tmp_path / "generator" / "1"
    preset = json.loads((tmp_path / "generator" / "1" / "assets" / "preset.json").read_text())
    assert (preset["epsilon"], preset["stage2_epochs"], preset["image_shape"]) == (0.3, 4, [8, 8, 1])
    expected = generator(digits[2][:3], "five")
    for path in (tmp_path, tmp_path / "generator", tmp_path / "generator" / "1"):
        np.testing.assert_allclose(aigan_tf.attack(str(path), digits[2][:3], "five"), expected, atol=1e-6)
    with pytest.raises(InputError, match="a SavedModel already"):
        aigan_tf.load_generator(tmp_path).export(tmp_path / "again")
    with pytest.raises(InputError, match="holds no generator"):
        aigan_tf.load_generator(tmp_path / "nowhere")


def test_a_tf_dataset_is_taken_in_batches_or_one_by_one():
    images, labels = np.arange(5 * 64, dtype=np.uint8).reshape(5, 8, 8, 1), np.arange(5)
    for columns in ((images,), (images, labels)):
        dataset = tf.data.Dataset.from_tensor_slices(columns if len(columns) > 1 else images)
        for form in (dataset, dataset.batch(2)):
            taken, known = arrays.as_uint8_images_and_labels(form, None)
            np.testing.assert_array_equal(taken, images)
            assert (known is None) if len(columns) == 1 else (known == labels).all()
    taken, known = arrays.as_uint8_images_and_labels(
        tf.data.Dataset.from_tensor_slices({"image": images, "label": labels}), None
    )
    np.testing.assert_array_equal(taken, images)
    np.testing.assert_array_equal(known, labels)


def test_without_labels_the_classifiers_answers_are_taken(classifier, digits):
    short = {**FEW, "steps_per_epoch": 2, "stage1_epochs": 0, "stage2_epochs": 1, "batch_size": 16}
    made = aigan_tf.fit_generator(classifier, digits[0][:200], input_range=(0, 255), **short)
    assert np.abs(made(digits[2][:2], 1) - digits[2][:2]).max() > 0.01
    with pytest.raises(InputError, match=r"epsilon=0\.1: this generator has one budget"):
        made(digits[2][:2], 1, epsilon=0.1)


def of_two_sizes(images):
    def some():
        yield from images[:2]
        yield from images[2:4, :7]

    return tf.data.Dataset.from_generator(some, output_signature=tf.TensorSpec((None, 8, 1), tf.float32))


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (lambda x: x * 255, None, r"from 0\.0 to 255\.0; expected \[0, 1\], or uint8"),
        (lambda x: x[..., 0], None, r"expected \(n, height, width, channels\)"),
        (lambda x: x[:, :4], None, r"shape \(100, 4, 8, 1\); expected .* sides from 8"),
        (lambda x: x[:1], None, "1 images given; expected at least two"),
        (lambda x: x[:, :, :, [0, 0, 0]], None, "the classifier fails on images of .*: resize them"),
        (lambda x: 3.0, None, "images are no array of numbers"),
        (lambda x: x, np.arange(100) % 2 + 20, "labels go from 20 to 21"),
        (lambda x: x, np.full(100, 10), "labels go from 10 to 10; expected 0 to 9"),
        (lambda x: x, np.zeros(99, int), r"shape \(99,\); expected whole numbers of shape \(100,\)"),
        (lambda x: x, np.zeros(100), "labels are float64"),
        (lambda x: x, np.eye(10)[np.zeros(100, int)], r"labels are float64 of shape \(100, 10\)"),
        (lambda x: tf.data.Dataset.from_tensors(x).repeat(), None, "never ends; expected one pass"),
        (lambda x: tf.data.Dataset.from_tensors(x).take(0), None, "is empty"),
        (lambda x: of_two_sizes(x), None, "Cannot batch tensors with different shapes.*all of one size"),
        (lambda x: of_two_sizes(x).batch(1), None, "must match exactly.*all of one size"),
        (lambda x: tf.data.Dataset.from_tensor_slices(["a.png", "b.png"]), None, "holds string in place of images"),
        (lambda x: of_two_sizes(x).map(lambda i: tf.py_function(lambda y: y, [i], tf.float32)), None, "unknown shape"),
        (lambda x: x[:30], None, "batch_size=64: expected at most the 27 training images"),
    ],
)
def test_what_cannot_be_trained_on_is_named(images, labels, words, classifier, digits):
    with pytest.raises(InputError, match=words):
        aigan_tf.fit_generator(classifier, images(digits[0][:100]), labels, input_range=(0, 255), **FEW)


def test_a_mistyped_or_idle_setting_is_named(classifier, digits):
    with pytest.raises(InputError, match=r"no setting stage1_epoch; .*did you mean stage1_epochs"):
        aigan_tf.fit_generator(classifier, digits[0], input_range=(0, 255), stage1_epoch=3)
    with pytest.raises(InputError, match="no setting defense"):
        aigan_tf.fit_generator(classifier, digits[0], input_range=(0, 255), defense="pgd")
    for wrong in ((255, 0), 255, ("black", "white")):
        with pytest.raises(InputError, match=r"input_range=.*: expected \(low, high\)"):
            aigan_tf.fit_generator(classifier, digits[0], input_range=wrong)
    for wrong in ("abcdefghij", [*NAMES[:9], "one"], [*NAMES[:9], "ni\nne"], range(10), [], 5, [["one"], ["two"]]):
        with pytest.raises(InputError, match=r"class_names=.*: expected a list of printable texts, a different one"):
            aigan_tf.fit_generator(classifier, digits[0], class_names=wrong, input_range=(0, 255))
    with pytest.raises(InputError, match=r"^epsilon=8"):
        aigan_tf.fit_generator(classifier, digits[0], epsilon=8)
    with pytest.raises(InputError, match=r"^max_shift=8: images are 8 x 8 x 1; expected less"):
        aigan_tf.fit_generator(classifier, digits[0], max_shift=8)
    with pytest.raises(InputError, match=r"the classifier is a str; .*load_model"):
        aigan_tf.fit_generator("model.keras", digits[0])


def test_a_classifier_that_is_wrong_about_the_images_is_noticed(classifier, digits, capsys):
    short = {**FEW, "steps_per_epoch": 1, "stage1_epochs": 0, "stage2_epochs": 1}
    with pytest.raises(InputError, match=r"gets none of 2 images right; .*check input_range, the order"):
        aigan_tf.fit_generator(classifier, digits[0][:2], (digits[1][:2] + 1) % 10, input_range=(0, 255), **short)
    constant = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)])
    aigan_tf.fit_generator(constant, digits[0], digits[1], **short)
    shown = capsys.readouterr().out
    assert "Classifier accuracy on 1348 images:" in shown
    assert "WARNING: that is near chance (10%)" in shown
    assert "--" not in shown


def test_the_accuracy_is_that_of_images_from_end_to_end(classifier, digits, monkeypatch, capsys):
    monkeypatch.setattr(api, "MAX_ACCURACY_IMAGES", 20)
    order = np.argsort(digits[1], kind="stable")  # as a folder of classes is read
    wrong_on_zeros = np.where(digits[1] == 0, 1, digits[1])
    short = {**FEW, "steps_per_epoch": 1, "stage1_epochs": 0, "stage2_epochs": 1}
    aigan_tf.fit_generator(classifier, digits[0][order], wrong_on_zeros[order], input_range=(0, 255), **short)
    measured = float(re.search(r"accuracy on 20 images: ([0-9.]+)%", capsys.readouterr().out)[1])
    assert 70 <= measured <= 95


def test_evaluate_takes_a_generator_its_folder_or_any_callable(generator, classifier, digits, tmp_path):
    images, labels = digits[2][:40], digits[3][:40]
    measured = aigan_tf.evaluate(generator, classifier, images, labels, 0.3, input_range=(0, 255), class_names=NAMES)
    generator.export(tmp_path)
    again = aigan_tf.evaluate(
        tmp_path, classifier, np.round(images * 255).astype(np.uint8), labels, 0.3, input_range=(0, 255)
    )
    both = aigan_tf.evaluate(
        {"ours": generator, "none": lambda images, targets: images},
        classifier,
        images,
        labels,
        0.3,
        input_range=(0, 255),
    )
    assert measured["aigan"]["success_rate"] > 0.5
    assert measured["aigan"]["worst_target"] in NAMES
    for name in ("num_attacks", "success_rate"):
        assert measured["aigan"][name] == again["aigan"][name] == both["ours"][name]
    assert both["none"]["success_rate"] == 0.0
    for wrong in (
        dict(labels=labels[:3]),
        dict(classifier="model.keras"),
        dict(images=images[:0]),
        dict(attacks=classifier),
    ):
        given = dict(attacks=generator, classifier=classifier, images=images, labels=labels) | wrong
        with pytest.raises(InputError):
            aigan_tf.evaluate(**given, epsilon=0.3, input_range=(0, 255))


def test_a_generator_of_several_budgets_is_measured_at_the_one_given(generator, classifier, digits):
    images, labels = digits[2][:20], digits[3][:20]
    for attacks, name in ((generator, "aigan"), ({"ours": generator}, "ours")):
        measured = aigan_tf.evaluate(attacks, classifier, images, labels, 0.1, input_range=(0, 255))[name]
        assert 0.09 < measured["max_linf_float"] <= 0.1 + 1e-6


def test_a_generator_of_another_kind_than_is_measured_is_refused(generator, classifier, digits):
    with pytest.raises(
        InputError, match=r"attacks\['ours'\] is a targeted generator and targeted=False; .* give targeted=True"
    ):
        aigan_tf.evaluate(
            {"ours": generator}, classifier, digits[2][:5], digits[3][:5], 0.3, input_range=(0, 255), targeted=False
        )


def test_what_a_caller_draws_after_a_training_is_not_the_same_each_time(classifier, digits):
    short = {**FEW, "steps_per_epoch": 1, "stage1_epochs": 0, "stage2_epochs": 1, "batch_size": 16}
    drawn = []
    for _ in range(2):
        made = aigan_tf.fit_generator(classifier, digits[0][:100], input_range=(0, 255), **short)
        drawn.append((random.random(), np.random.random(), float(tf.random.uniform(())), made(digits[2][:2], 1)))
    for one, other in zip(*(values[:3] for values in drawn), strict=True):
        assert one != other
    np.testing.assert_array_equal(drawn[0][3], drawn[1][3])  # the generator is: it has a seed of its own


def test_what_is_no_generator_is_not_loaded_as_one(classifier, tmp_path):
    classifier.export(tmp_path / "classifier", verbose=False)
    with pytest.raises(InputError, match=r"cannot be loaded \(.*\); expected a generator"):
        aigan_tf.load_generator(tmp_path / "classifier")


def test_the_names_are_there_without_importing_tensorflow():
    code = (
        "import sys, aigan_tf\n"
        "assert {'fit_generator', 'attack', 'load_generator', 'evaluate', 'AIGAN'} <= set(dir(aigan_tf))\n"
        "assert 'tensorflow' not in sys.modules\n"
        "assert callable(aigan_tf.evaluate)\n"
        "try:\n    aigan_tf.nothing\nexcept AttributeError as error:\n    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "has no attribute 'nothing'" in run.stdout
