"""The Python API on the embedded digits: train, attack, export, load, measure."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import aigan_tf
from aigan_tf.data import arrays
from aigan_tf.errors import InputError

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FEW = dict(
    epsilon=0.3, steps_per_epoch=40, stage1_epochs=1, stage2_epochs=4, batch_size=64, attack_steps=3, generator_width=8,
    generator_blocks=1, learning_rate=5e-3,
)  # fmt: skip
FEWEST = {**FEW, "steps_per_epoch": 1, "stage1_epochs": 0, "stage2_epochs": 1, "batch_size": 16}


@pytest.fixture(scope="module")
def train(digits):
    return digits.train.as_float(), digits.train.labels


@pytest.fixture(scope="module")
def test(digits):
    return digits.test.as_float(), digits.test.labels


@pytest.fixture(scope="module")
def classifier(train):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(64, "relu"),
         layers.Dense(10, "softmax")]
    )  # fmt: skip
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(train[0] * 255, train[1], epochs=12, verbose=0)
    return model


@pytest.fixture(scope="module")
def fit(classifier, train):
    """`fit_generator` on the training digits, with anything else given."""

    def fit(images=train[0], labels=None, classifier=classifier, **given):
        return aigan_tf.fit_generator(classifier, images, labels, **{"input_range": (0, 255), **FEW, **given})

    return fit


@pytest.fixture(scope="module")
def generator(fit, train):
    return fit(labels=train[1], class_names=NAMES, variable_epsilon=True)


def refused(setting, words, call, *arguments, **named):
    with pytest.raises(InputError, match=words) as caught:
        call(*arguments, **named)
    assert caught.value.setting == setting


def test_a_generator_makes_a_classifier_predict_the_targets(generator, classifier, test):
    before = [weight.copy() for weight in classifier.get_weights()]
    images, labels = test
    targets = (labels + 3) % 10
    adversarial = aigan_tf.attack(generator, images, targets)
    assert adversarial.dtype == np.float32
    assert ((adversarial >= 0) & (adversarial <= 1)).all()
    assert np.abs(adversarial - images).max() <= 0.3 + 1e-6
    reached, clean = (np.mean(np.argmax(classifier(x * 255), axis=1) == targets) for x in (adversarial, images))
    assert reached > 0.6
    assert clean < 0.1
    assert all(np.array_equal(*pair) for pair in zip(classifier.get_weights(), before, strict=True))


def test_a_class_is_a_number_or_a_name_for_one_image_or_all(generator, test):
    images = test[0][:3]
    by_number = generator(images, [7, 2, 0])
    by_name = ["7", "two", 0]
    np.testing.assert_array_equal(generator(images, by_name), by_number)
    np.testing.assert_array_equal(generator(images, tf.constant(["seven", "two", "zero"])), by_number)
    np.testing.assert_array_equal(generator(images, "two"), generator(images, 2))
    np.testing.assert_allclose(generator(images, by_name, batch_size=2), by_number, atol=1e-6)
    for wrong in ("ten", 2.9, ["seven", None, 1]):
        refused("target_classes", "one of zero, one", generator, images, wrong)
    refused("target_classes", "shape", generator, images, np.array([1, 2]))


@pytest.mark.parametrize("change", [lambda x: x * 255, lambda x: x * np.nan, lambda x: ["digits.png"]])
def test_images_that_cannot_be_attacked_are_refused_in_one_line(change, generator, test):
    with pytest.raises(InputError, match="images") as caught:
        generator(change(test[0][:3]), 1)
    assert len(str(caught.value)) < 300


def test_each_image_is_kept_within_its_epsilon(generator, test):
    images = test[0][:3]
    for given, kept in (([0.05, 0.3, 0.1], [0.05, 0.3, 0.1]), (0.1, [0.1] * 3)):
        moved = np.abs(aigan_tf.attack(generator, images, 1, epsilon=given) - images).max(axis=(1, 2, 3))
        np.testing.assert_allclose(moved, kept, atol=1e-5)
    for wrong in ([0.1, 0.2], "much", 0.31, 0.0, float("nan")):
        with pytest.raises(InputError, match="epsilon"):
            aigan_tf.attack(generator, images, 1, epsilon=wrong)


def test_an_exported_generator_is_loaded_with_its_names(generator, test, tmp_path):
    assert generator.export(tmp_path / "generator") == tmp_path / "generator" / "1"
    preset = json.loads((tmp_path / "generator" / "1" / "assets" / "preset.json").read_text())
    assert (preset["epsilon"], preset["stage2_epochs"], preset["image_shape"]) == (0.3, 4, [8, 8, 1])
    expected = generator(test[0][:3], "five")
    for path in (tmp_path, tmp_path / "generator", tmp_path / "generator" / "1"):
        np.testing.assert_allclose(aigan_tf.attack(str(path), test[0][:3], "five"), expected, atol=1e-6)
    for made, source in ((generator, "fit_generator"), (aigan_tf.load_generator(tmp_path), str(tmp_path))):
        for word in ("8 x 8 x 1", "10 classes", "epsilon 0.3", source):
            assert word in repr(made)
    refused("path", "not a folder", aigan_tf.load_generator, tmp_path / "nowhere")
    refused(None, "fit_generator", aigan_tf.attack, None, test[0], 1)


def test_a_tf_dataset_is_taken_in_batches_or_one_by_one():
    images, labels = np.arange(5 * 64, dtype=np.uint8).reshape(5, 8, 8, 1), np.arange(5)
    for given, known in ((images, None), ((images, labels), labels), ({"image": images, "label": labels}, labels)):
        dataset = tf.data.Dataset.from_tensor_slices(given)
        for form in (dataset, dataset.batch(2)):
            taken, found = arrays.as_uint8_images_and_labels(form, None)
            np.testing.assert_array_equal(taken, images)
            np.testing.assert_array_equal(found, known)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return np.zeros((50, 8, 8, 1), np.float32)


class OnlyItems:
    def __getitem__(self, index):
        return np.zeros((8, 8, 1), np.float32)


class Endless(OnlyItems):
    __len__ = Batches.__len__

    def __iter__(self):  # as an iterator of ImageDataGenerator
        while True:
            yield self[0]


@pytest.mark.parametrize("given", [Batches(), OnlyItems(), Endless(), iter(Endless())])
def test_what_may_have_no_end_is_not_waited_for(given, generator, test):
    for use in (
        lambda: arrays.as_uint8_images_and_labels(given, None),
        lambda: arrays.checked_labels(given, 2, 10),
        lambda: aigan_tf.attack(generator, given, 1),
        lambda: aigan_tf.attack(generator, test[0][:2], 1, epsilon=given),
    ):
        with pytest.raises(InputError):
            use()


def test_an_endless_dataset_that_hides_it_is_not_read_for_ever(monkeypatch):
    signature = tf.TensorSpec((8, 8, 1), tf.float32)
    dataset = tf.data.Dataset.from_generator(lambda: iter(Endless()), output_signature=signature)
    monkeypatch.setattr(arrays, "MAX_UNCOUNTED", 10_000)
    with pytest.raises(InputError, match="long"):
        arrays.as_uint8_images_and_labels(dataset.batch(4), None)
    counted = dataset.apply(tf.data.experimental.assert_cardinality(100))
    assert len(arrays.as_uint8_images_and_labels(counted.take(100), None)[0]) == 100


def of_two_sizes(images):
    signature = tf.TensorSpec((None, 8, 1), tf.float32)
    return tf.data.Dataset.from_generator(lambda: iter([images[0], images[1, :7]]), output_signature=signature)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (lambda x: x * 255, None, r"255\.0"),
        (lambda x: x[:, :4], None, r"shape \(100, 4, 8, 1\)"),
        (lambda x: x[:, :, :, [0, 0, 0]], None, "classifier"),
        (lambda x: 3.0, None, "array"),
        (lambda x: x, np.arange(100) % 2 + 20, "20 to 21"),
        (lambda x: x, np.zeros(99, int), r"\(99,\)"),
        (lambda x: x, np.eye(10)[np.zeros(100, int)], r"\(100, 10\)"),
        (lambda x: tf.data.Dataset.from_tensors(x).repeat(), None, "never ends"),
        (lambda x: tf.data.Dataset.from_tensors(x).take(0), None, "empty"),
        (of_two_sizes, None, "one size"),
        (lambda x: tf.data.Dataset.from_tensor_slices(["a.png", "b.png"]), None, "string"),
        (lambda x: x[:30], None, "batch_size=64"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(images, labels, words, fit, train):
    with pytest.raises(InputError, match=words):
        fit(images(train[0][:100]), labels)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("stage1_epoch", 3, "use stage1_epochs"),
        ("defense", "pgd", "leave it out"),
        ("epsilon", 8, "^epsilon=8"),
        ("input_range", (255, 0), "LOW"),
        ("input_range", 255, "LOW"),
        ("class_names", "abcdefghij", "printable"),
        ("class_names", [*NAMES[:9], "ni\nne"], "printable"),
        ("target_classes", [11], "expected one of 0"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(name, value, words, fit):
    refused(name, words, fit, **{name: value})


@pytest.mark.long
def test_a_classifier_that_is_wrong_about_the_images_is_noticed(fit, train, capsys):
    made = fit(train[0][:200], **FEWEST)  # without labels the classifier's predictions are taken
    refused("epsilon", "one budget", made, train[0][:2], 1, epsilon=0.1)
    refused(None, "input_range", fit, train[0][:2], (train[1][:2] + 1) % 10, **FEWEST)
    refused(None, "load_model", fit, classifier="model.keras")
    constant = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)])
    fit(labels=train[1], classifier=constant, **FEWEST)
    shown = capsys.readouterr().out
    assert "accuracy on 1348 images" in shown
    assert "near chance (10%)" in shown
    assert "--" not in shown


def test_evaluate_takes_a_generator_its_folder_or_any_callable(generator, classifier, test, tmp_path):
    images, labels = test[0][:40], test[1][:40]

    def evaluate(**given):
        arguments = dict(classifier=classifier, images=images, labels=labels, epsilon=0.3, input_range=(0, 255)) | given
        return aigan_tf.evaluate(**arguments)

    measured = evaluate(attacks=generator, class_names=NAMES)["aigan"]
    generator.export(tmp_path)
    again = evaluate(attacks=tmp_path, images=np.round(images * 255).astype(np.uint8))["aigan"]
    both = evaluate(attacks={"ours": generator, "none": lambda images, targets: images})
    assert measured["success_rate"] > 0.5
    assert measured["worst_target"] in NAMES
    for other in (again, both["ours"]):
        assert other["num_attacks"] == measured["num_attacks"]
        # An image at the border of two classes may fall to either: the loaded graph adds up in another order.
        assert other["success_rate"] == pytest.approx(measured["success_rate"], abs=0.02)
    assert both["none"]["success_rate"] == 0.0
    assert 0.09 < evaluate(attacks=generator, epsilon=0.1)["aigan"]["max_linf_float"] <= 0.1 + 1e-6
    refused("targeted", "ours", evaluate, attacks={"ours": generator}, targeted=False)
    refined = evaluate(attacks=generator, refine_steps=2)
    assert refined["aigan+2"]["success_rate"] > refined["aigan"]["success_rate"] == measured["success_rate"]
    refused("refine_steps", "999", evaluate, attacks=generator, refine_steps=-1)
    refused("refine_steps", "by itself", evaluate, attacks={"ours": generator}, refine_steps=2)
    for wrong in (dict(labels=labels[:3]), dict(classifier="model.keras"), dict(images=images[:0])):
        refused(None, "expected", evaluate, **{"attacks": generator, **wrong})
