"""TFDS data sets, without a network: prepared by the tests, damaged, hostile or missing."""

import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from aigan_tf.data import datasets
from aigan_tf.errors import InputError

pytestmark = pytest.mark.usefixtures("no_network")


def store(folder, name, features, splits, version="1.0.0", config=None):
    """Prepares a TFDS data set of the given examples by split."""
    numbered = {split: list(enumerate(examples)) for split, examples in splits.items()}
    tfds.dataset_builders.store_as_tfds_dataset(
        name, version, features, numbered, config=config, data_dir=folder, disable_shuffling=True
    )


def image_examples(count, shape, seed=0, unlabelled=False):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *shape)).astype(np.uint8)
    return [{"image": image, "label": -1 if unlabelled else k % 10} for k, image in enumerate(images)]


def image_features(shape, **arguments):
    image, label = tfds.features.Image(shape=shape, **arguments), tfds.features.ClassLabel(num_classes=10)
    return tfds.features.FeaturesDict({"image": image, "label": label})


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """MNIST's own specification with 30 + 20 random images: the folder and the examples."""
    folder = tmp_path_factory.mktemp("tfds")
    builder = tfds.builder("mnist", data_dir=folder)
    splits = {"train": image_examples(30, (28, 28, 1)), "test": image_examples(20, (28, 28, 1), seed=1)}
    store(folder, "mnist", builder.info.features, splits, str(builder.version))
    return folder, splits


@pytest.mark.parametrize("name", ["mnist", "mnist:3.0.1", "mnist:3.*.*"])
def test_a_prepared_data_set_is_read_without_the_network(name, mnist, no_network):
    folder, splits = mnist
    dataset = datasets.load(name, str(folder))
    assert not no_network
    assert dataset.name == name
    assert dataset.image_shape == (28, 28, 1)
    assert dataset.class_names == tuple("0123456789")
    np.testing.assert_array_equal(dataset.test.images, [example["image"] for example in splits["test"]])
    np.testing.assert_array_equal(dataset.test.labels, [example["label"] for example in splits["test"]])
    assert (len(dataset.train), len(dataset.validation)) == (27, 3)
    held = {image.tobytes() for split in (dataset.train, dataset.validation) for image in split.images}
    assert held == {example["image"].tobytes() for example in splits["train"]}
    assert dataset.test.labels.dtype == np.int32


def test_a_data_set_unknown_to_tfds_is_read_in_its_newest_version(tmp_path):
    for count, version in ((10, "1.9.0"), (20, "1.10.0")):
        store(tmp_path, "own", image_features((8, 8, 1)), {"test": image_examples(count, (8, 8, 1))}, version)
    store(tmp_path, "own", image_features((9, 9, 1)), {"test": image_examples(10, (9, 9, 1))}, config="large")
    for name, size in {"own": 15, "own:1.9.0": 7, "own:1.9.*": 7, "own/large": 7}.items():
        assert len(datasets.load(name, str(tmp_path)).train) == size
    assert datasets.load("own/large:1.0.0", str(tmp_path)).image_shape == (9, 9, 1)


def test_a_data_set_without_labelled_test_images_has_some_held_out(tmp_path, caplog):
    shape = (9, 13, 3)
    examples, unlabelled = image_examples(40, shape), image_examples(10, shape, unlabelled=True)
    store(tmp_path, "places", image_features(shape), {"train": examples, "test": unlabelled, "validation": examples})
    assert len(datasets.load("places", str(tmp_path)).test) == 40
    for name, splits in (("only", {"train": examples}), ("contest", {"train": examples, "test": unlabelled})):
        store(tmp_path, name, image_features(shape), splits)
        dataset, again = (datasets.load(name, str(tmp_path)) for _ in range(2))
        assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (29, 3, 8)
        parts = [image.tobytes() for s in (dataset.train, dataset.validation, dataset.test) for image in s.images]
        assert sorted(parts) == sorted(example["image"].tobytes() for example in examples)  # each once
        np.testing.assert_array_equal(again.test.images, dataset.test.images)
        assert f"{name} has no test split" in caplog.text


def test_images_of_different_sizes_need_image_size(tmp_path):
    examples = image_examples(10, (9, 13, 3)) + image_examples(10, (20, 10, 3))
    store(tmp_path, "sizes", image_features((None, None, 3)), {"train": examples, "test": examples})
    with pytest.raises(InputError, match="different sizes"):
        datasets.load("sizes", str(tmp_path))
    assert datasets.load("sizes", str(tmp_path), (12, 12)).image_shape == (12, 12, 3)


@pytest.mark.parametrize(
    ("features", "examples", "word"),
    [
        (
            image_features((9, 13, 1), dtype=np.uint16, encoding_format="png"),
            [{"image": np.full((9, 13, 1), 6000 * k, np.uint16), "label": k} for k in range(10)],
            "uint16",
        ),
        (image_features((8, 8, 1)), image_examples(30, (8, 8, 1), unlabelled=True), "label"),
    ],
)
def test_data_other_than_8_bit_image_classification_are_refused(features, examples, word, tmp_path):
    store(tmp_path, "unfit", features, {"train": examples})
    with pytest.raises(InputError, match=word) as error:
        datasets.load("unfit", str(tmp_path))
    assert error.value.setting == "dataset"


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("mnist-test.tfrecord*", lambda content: content[:-1]),
        ("dataset_info.json", lambda content: content.replace(b'"20"', b'"0"')),
        ("dataset_info.json", lambda content: content.replace(b'"20"', b'"21"')),  # more examples than there are
        ("dataset_info.json", lambda content: json.dumps(json.loads(content) | {"splits": []}).encode()),
        ("*.json", lambda content: b"{"),
    ],
)
def test_a_damaged_data_set_is_refused(file, damage, mnist, tmp_path, no_network):
    shutil.copytree(mnist[0], tmp_path / "tfds")
    for path in tmp_path.rglob(file):
        path.write_bytes(damage(path.read_bytes()))
    for name in ("mnist", "mnist:3.0.1"):
        with pytest.raises(InputError, match="cannot be read"):
            datasets.load(name, str(tmp_path / "tfds"))
    assert not no_network


IMAGE = "tensorflow_datasets.core.features.image_feature.Image"
INNER = {"image": {"type": IMAGE, "content": {}}}
FORMS = {
    "plain": dict,
    "snake case": lambda found: json.loads(json.dumps(found).replace("pythonClassName", "python_class_name")),
    "JSON in JSON": lambda found: {
        "pythonClassName": found["pythonClassName"], "jsonFeature": {"json": json.dumps(INNER)}
    },
    "legacy": lambda found: {"type": found["pythonClassName"], "content": INNER},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("place", ["features.json", "dataset_info.json"])
def test_a_module_named_by_a_data_set_is_not_imported(place, form, tmp_path, monkeypatch):
    store(tmp_path / "tfds", "evil", image_features((8, 8, 1)), {"train": image_examples(30, (8, 8, 1))})
    assert len(datasets.load("evil", str(tmp_path / "tfds")).class_names) == 10
    file = next(tmp_path.rglob("features.json"))
    content = form(json.loads(file.read_text()))
    if place == "dataset_info.json":
        file = file.with_name(place)
        content = json.loads(file.read_text()) | {"features": content}
    file.write_text(json.dumps(content).replace(IMAGE, "evilmod.Image"))
    (tmp_path / "evilmod.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"evilmod\.Image"):
        datasets.load("evil", str(tmp_path / "tfds"))
    assert not (tmp_path / "ran").exists()


def test_a_dead_network_fails_soon_and_leaves_nothing(tmp_path, no_network, monkeypatch):
    waits = []
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda retry, *_: waits.append(retry.get_backoff_time()))
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="cannot be downloaded") as error:
        datasets.load("mnist", str(tmp_path))
    assert error.value.setting == "dataset"
    assert "\n" not in str(error.value)
    assert no_network  # it was tried
    assert 0 < sum(waits) <= 4 * 10  # seconds; MNIST has four files, downloaded at once
    assert [path.name for path in tmp_path.rglob("*")] == ["mine.txt"]
