"""Data sets: the embedded digits, folders of pictures, and TFDS without a network."""

import errno
import json
import logging
import os
import pathlib
import shutil
import socket
import tempfile
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from aigan_tf.data import datasets, splits
from aigan_tf.data.batches import evaluation_batches, training_batches
from aigan_tf.errors import InputError, Terminated


@pytest.fixture
def no_network(monkeypatch):
    """Fails every connection and name look-up; returns those that were tried."""
    tried = []

    def refuse(*args, **kwargs):
        tried.append(args[-2:])
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


def assert_one_line(caught, *words):
    message = str(caught.value)
    assert "\n" not in message
    for word in ("expected", *words):
        assert word in message


# --- digits


def test_digits_are_split_as_documented():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = bunch.images[..., np.newaxis].astype(np.float32) / 16
    dataset = datasets.load("digits")
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.class_names == tuple("0123456789")
    np.testing.assert_array_equal(dataset.test.as_float(), pixels[-300:])
    np.testing.assert_array_equal(dataset.test.labels, bunch.target[-300:])
    assert dataset.test.as_float().dtype == np.float32
    assert dataset.test.as_float().max() == 1.0

    # Validation and training data are the other 1,497, each once; each index is found by its pixels.
    index_of = {image.tobytes(): k for k, image in enumerate(pixels[:-300])}
    assert len(index_of) == 1497
    found = {}
    for name in ("train", "validation"):
        split = getattr(dataset, name)
        found[name] = [index_of[image.tobytes()] for image in split.as_float()]
        np.testing.assert_array_equal(split.labels, bunch.target[found[name]])
    assert sorted(found["train"] + found["validation"]) == list(range(1497))
    assert len(found["validation"]) == 149
    assert max(found["validation"]) - min(found["validation"]) > 1000  # not simply the last ones


def test_digits_are_resized():
    resized = datasets.load("digits", image_size=(28, 20)).test
    assert resized.images.shape == (300, 28, 20, 1)
    assert resized.pixel_max == 255
    means = [split.as_float().mean((1, 2, 3)) for split in (resized, datasets.load("digits").test)]
    np.testing.assert_allclose(*means, atol=0.03)


def test_digits_are_the_same_for_every_call():
    np.random.seed(1)
    first = datasets.load("digits")
    np.random.seed(2)
    tf.random.set_seed(3)
    second = datasets.load("digits")
    for name in ("train", "validation", "test"):
        for a, b in zip(*((getattr(d, name).images, getattr(d, name).labels) for d in (first, second)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_digits_need_no_network(no_network):
    datasets.load("digits")
    assert not no_network


# --- a folder


def write_image(path, shape=(9, 13, 3), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    path.write_bytes(tf.io.encode_png(pixels).numpy())
    return pixels


def write_folder(root, shape=(9, 13, 3), classes=("cat", "dog"), train=4, test=2):
    """Returns the pixels by path below `root`."""
    return {
        f"{split}/{name}/{k}.png": write_image(root / split / name / f"{k}.png", shape, seed=100 * c + 10 * s + k)
        for s, (split, count) in enumerate((("train", train), ("test", test)))
        for c, name in enumerate(classes)
        for k in range(count)
    }


@pytest.mark.parametrize("shape", [(9, 13, 1), (9, 13, 3), (8, 8, 3)])
def test_a_folder_of_odd_sized_pictures(shape, tmp_path, no_network):
    pixels = write_folder(tmp_path, shape)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not a picture")
    dataset = datasets.load(str(tmp_path))
    assert dataset.image_shape == shape
    assert dataset.class_names == ("cat", "dog")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (7, 1, 4)
    # Mixed, so that its first images are not all of one class; the same way every time.
    assert dataset.test.labels.tolist() not in ([0, 0, 1, 1], [1, 1, 0, 0])
    np.testing.assert_array_equal(datasets.load(str(tmp_path)).test.images, dataset.test.images)
    expected = {pixels[f"test/{name}/{k}.png"].tobytes(): c for c, name in enumerate(("cat", "dog")) for k in range(2)}
    assert [expected[image.tobytes()] for image in dataset.test.images] == dataset.test.labels.tolist()
    assert {image.tobytes() for image in dataset.test.images} == expected.keys()
    held = {image.tobytes() for split in (dataset.train, dataset.validation) for image in split.images}
    assert held == {image.tobytes() for path, image in pixels.items() if path.startswith("train")}
    for split in (dataset.train, dataset.validation):
        for image, label in zip(split.images, split.labels, strict=True):
            (path,) = (path for path, other in pixels.items() if other.tobytes() == image.tobytes())
            assert dataset.class_names[label] == path.split("/")[1]
    for split in (dataset.train, dataset.validation, dataset.test):
        assert [pixels[path].tobytes() for path in split.files] == [image.tobytes() for image in split.images]
    np.testing.assert_allclose(dataset.test.as_float() * 255, dataset.test.images, atol=1e-4)
    assert not no_network


def test_an_alpha_channel_is_dropped(tmp_path):
    pixels = write_folder(tmp_path, (9, 13, 4))
    dataset = datasets.load(str(tmp_path))
    assert dataset.image_shape == (9, 13, 3)
    assert pixels["test/cat/0.png"][..., :3].tobytes() in {image.tobytes() for image in dataset.test.images}


@pytest.mark.parametrize(
    "grey", [("train/cat/0.png", "test/dog/1.png"), ("train/cat/2.png",), ("test/cat", "test/dog")]
)
@pytest.mark.parametrize("in_memory", [splits.IN_MEMORY, 0])
def test_grey_pictures_among_those_in_colour_are_taken_as_colour(in_memory, grey, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(splits, "IN_MEMORY", in_memory)
    pixels = write_folder(tmp_path)
    datasets.load(str(tmp_path))
    assert not caplog.records
    made_grey = [path for path in pixels if path.startswith(grey)]
    for path in made_grey:
        pixels[path] = write_image(tmp_path / path, (9, 13, 1)).repeat(3, axis=-1)
    dataset = datasets.load(str(tmp_path))
    for split in (dataset.train, dataset.validation, dataset.test):
        assert [pixels[path].tobytes() for path in split.files] == [
            image.tobytes() for image in np.asarray(split.images)
        ]
    (record,) = caplog.records
    assert f"'{tmp_path}': {len(made_grey)} of 12 pictures are grey" in record.getMessage()


def test_what_is_no_picture_is_counted(tmp_path, caplog):
    write_folder(tmp_path)
    (tmp_path / "train" / "cat" / ".DS_Store").write_bytes(b"")
    datasets.load(str(tmp_path))
    assert not caplog.records
    (tmp_path / "train" / "cat" / "5.webp").write_bytes(b"")
    (tmp_path / "test" / "dog" / "more").mkdir()
    datasets.load(str(tmp_path))
    (record,) = caplog.records
    assert "left out of its class folders: 2" in record.getMessage()
    assert "'train/cat/5.webp'" in record.getMessage()
    assert ".png, .jpg" in record.getMessage()


def test_jpeg_files_are_read(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "train" / "cat" / "9.JPG").write_bytes(tf.io.encode_jpeg(np.full((9, 13, 3), 200, np.uint8)).numpy())
    dataset = datasets.load(str(tmp_path))
    assert len(dataset.train) + len(dataset.validation) == 9


def test_pictures_of_different_size_are_refused_or_resized(tmp_path):
    write_folder(tmp_path)
    write_image(tmp_path / "train" / "dog" / "big.png", (20, 30, 3))
    with pytest.raises(InputError) as caught:
        datasets.load(str(tmp_path))
    assert_one_line(caught, "big.png", "20 x 30", "9 x 13", "--image_size")
    dataset = datasets.load(str(tmp_path), image_size=(16, 10))
    assert dataset.image_shape == (16, 10, 3)
    assert dataset.train.images.dtype == np.uint8


def test_train_and_test_pictures_of_different_size_are_refused(tmp_path):
    write_folder(tmp_path)
    for path in (tmp_path / "test").rglob("*.png"):
        write_image(path, (12, 12, 3))
    with pytest.raises(InputError) as caught:
        datasets.load(str(tmp_path))
    assert_one_line(caught, "--image_size")


def test_resizing_keeps_the_picture(tmp_path):
    for split in ("train", "test"):
        for k, name in enumerate(("dark", "light")):
            for number in range(2):
                path = tmp_path / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                half = np.full((40, 20, 1), 60 + 100 * k, np.uint8)
                path.write_bytes(tf.io.encode_png(np.concatenate([half, half + 50], axis=1)).numpy())
    dataset = datasets.load(str(tmp_path), image_size=(10, 12))
    for image, label in zip(dataset.test.images, dataset.test.labels, strict=True):
        assert (image[:, :4] == 60 + 100 * label).all()
        assert (image[:, -4:] == 110 + 100 * label).all()


def test_a_missing_split_is_named(tmp_path):
    write_folder(tmp_path, test=0)
    with pytest.raises(InputError) as caught:
        datasets.load(str(tmp_path))
    assert_one_line(caught, "no test/", "test/CLASS/*.png")


def test_a_class_of_only_one_split_is_named(tmp_path):
    write_folder(tmp_path)
    write_image(tmp_path / "test" / "bird" / "0.png")
    with pytest.raises(InputError) as caught:
        datasets.load(str(tmp_path))
    assert_one_line(caught, "'bird'", "only one")


def test_an_empty_class_is_refused(tmp_path):
    write_folder(tmp_path)
    for split in ("train", "test"):
        (tmp_path / split / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        datasets.load(str(tmp_path))
    assert_one_line(caught, "without images")


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n cut off"])
def test_an_unreadable_picture_is_named(content, tmp_path):
    write_folder(tmp_path)
    (tmp_path / "train" / "dog" / "bad.png").write_bytes(content)
    with pytest.raises(InputError) as caught:
        datasets.load(str(tmp_path))
    assert_one_line(caught, "bad.png", "cannot be read")


def test_names_are_those_of_any_file_system(tmp_path):
    write_folder(tmp_path)
    picture = next((tmp_path / "train" / "dog").iterdir())
    picture.rename(picture.with_name(os.fsdecode(b"\xff.png")))
    datasets.load(str(tmp_path))
    for split in ("train", "test"):
        (tmp_path / split / "dog").rename(tmp_path / split / "do\ng")
    with pytest.raises(InputError) as caught:  # class_names.txt has one name a line
        datasets.load(str(tmp_path))
    assert_one_line(caught, "do\\ng", "rename")


def test_tiny_pictures_and_a_single_class_are_refused(tmp_path):
    write_folder(tmp_path / "tiny", (7, 13, 3))
    with pytest.raises(InputError) as caught:
        datasets.load(str(tmp_path / "tiny"))
    assert_one_line(caught, "7 x 13 x 3", "at least 8")
    assert datasets.load(str(tmp_path / "tiny"), image_size=(8, 8)).image_shape == (8, 8, 3)
    write_folder(tmp_path / "single", classes=("cat",))
    with pytest.raises(InputError) as caught:
        datasets.load(str(tmp_path / "single"))
    assert_one_line(caught, "1 class", "at least 2")


@pytest.fixture
def no_memory(monkeypatch):
    """Every split is too large for memory."""
    monkeypatch.setattr(splits, "IN_MEMORY", 0)


def arrays_of(dataset):
    return [
        array for split in (dataset.train, dataset.validation, dataset.test) for array in (split.images, split.labels)
    ]


def test_more_than_fits_in_memory_lies_on_disk_and_is_the_same(tmp_path, monkeypatch):
    write_folder(tmp_path)
    held = datasets.load(str(tmp_path))
    assert not held.train.on_disk
    monkeypatch.setattr(splits, "IN_MEMORY", 9 * 13 * 3 * 2 - 1)
    lying = datasets.load(str(tmp_path))
    assert lying.train.on_disk
    for one, other in zip(arrays_of(held), arrays_of(lying), strict=True):
        np.testing.assert_array_equal(one, other)
    assert lying.train.channel_statistics() == held.train.channel_statistics()
    some = np.array([3, 0, 3])
    assert type(lying.train.as_float()) is np.ndarray
    np.testing.assert_array_equal(lying.train.take(some).as_float(), held.train.take(some).as_float())


@pytest.mark.usefixtures("no_memory")
def test_training_and_evaluation_read_the_same_batches_from_disk():
    lying = datasets.load("digits", image_size=(9, 9))
    assert lying.train.on_disk
    assert lying.test.on_disk
    held = [splits.Split(np.array(split.images), split.labels) for split in (lying.train, lying.test)]

    def batches(train, test):
        training = training_batches(train, 64, seed=3, first_step=30, max_shift=1, flip=True).take(3)
        return [array.numpy() for part in (training, evaluation_batches(test, 128)) for pair in part for array in pair]

    for one, other in zip(batches(lying.train, lying.test), batches(*held), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("no_memory")
def test_where_there_is_no_room_on_disk_either_it_is_refused(tmp_path, monkeypatch):
    write_folder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(splits.shutil, "disk_usage", lambda folder: mock.Mock(free=9 * 13 * 3 * 4 - 1))
        with pytest.raises(InputError) as caught:
            datasets.load(str(tmp_path))
        assert_one_line(caught, "GiB", "TMPDIR", "--image_size")

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(splits.os, "posix_fallocate", full)  # others have filled it meanwhile
    with pytest.raises(InputError) as caught:
        datasets.load(str(tmp_path))
    assert_one_line(caught, "GiB", "TMPDIR", "--image_size")


@pytest.mark.usefixtures("no_memory")
def test_parts_of_a_split_on_disk_share_its_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = mock.Mock(wraps=tempfile.TemporaryFile)
    monkeypatch.setattr(splits.tempfile, "TemporaryFile", made)
    dataset = datasets.load("digits", image_size=(9, 9))
    few = dataset.train.take(np.array([5, 2, 5])).take(slice(1, None))
    assert few.on_disk
    assert made.call_count == 1
    assert not list(tmp_path.iterdir())  # it has no name: nothing is left when the process ends
    np.testing.assert_array_equal(few.as_float(), dataset.train.as_float()[[2, 5]])


def test_large_images_are_taken_a_few_at_once():
    assert splits.images_at_once((32, 32, 3)) == 1000
    assert splits.images_at_once((1024, 1024, 3)) == 21
    assert splits.images_at_once((10**6, 10**6, 3)) == 1


def test_channel_statistics_are_those_of_the_pixels(monkeypatch):
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 256, (2500, 5, 7, 3)) // np.array([1, 2, 256])).astype(
        np.uint8
    )  # the last one: all black
    split = splits.Split(images, np.zeros(2500, np.int32))
    mean, std = split.channel_statistics()
    pixels = images.astype(np.float64) / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(std, pixels.std((0, 1, 2)) + 1e-6, rtol=1e-9)
    assert std[2] > 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_that_is_called_a_picture_is_not_waited_for(tmp_path):
    write_folder(tmp_path)
    os.mkfifo(tmp_path / "train" / "cat" / "x.png")
    with pytest.raises(InputError) as caught:
        datasets.load(str(tmp_path))
    assert_one_line(caught, "x.png", "cannot be read")


# --- TFDS


def store(folder, name, features, splits, version="1.0.0"):
    """Lays out a TFDS data set of the given examples by split."""
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=version,
        features=features,
        split_datasets={split: list(enumerate(examples)) for split, examples in splits.items()},
        data_dir=folder,
        disable_shuffling=True,
    )


def image_examples(count, shape, seed=0, classes=10):
    rng = np.random.default_rng(seed)
    return [{"image": rng.integers(0, 256, shape).astype(np.uint8), "label": k % classes} for k in range(count)]


def image_features(shape, classes=10, **arguments):
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=shape, **arguments),
            "label": tfds.features.ClassLabel(num_classes=classes),
        }
    )


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """MNIST's own specification with 30 + 20 made-up images: the folder and the examples."""
    folder = tmp_path_factory.mktemp("tfds")
    builder = tfds.builder("mnist", data_dir=folder)
    splits = {"train": image_examples(30, (28, 28, 1)), "test": image_examples(20, (28, 28, 1), seed=1)}
    store(folder, "mnist", builder.info.features, splits, str(builder.version))
    return folder, splits


def test_a_data_set_that_is_laid_out_is_read_without_the_network(mnist, no_network):
    folder, splits = mnist
    dataset = datasets.load("mnist", str(folder))
    assert not no_network
    assert dataset.name == "mnist"
    assert dataset.image_shape == (28, 28, 1)
    assert dataset.class_names == tuple("0123456789")
    np.testing.assert_array_equal(dataset.test.images, [example["image"] for example in splits["test"]])
    np.testing.assert_array_equal(dataset.test.labels, [example["label"] for example in splits["test"]])
    assert (len(dataset.train), len(dataset.validation)) == (27, 3)
    held = {image.tobytes() for split in (dataset.train, dataset.validation) for image in split.images}
    assert held == {example["image"].tobytes() for example in splits["train"]}
    assert dataset.test.labels.dtype == np.int32


def without_labels(count, shape):
    return [example | {"label": -1} for example in image_examples(count, shape, seed=2)]


def test_a_split_without_labels_is_left_out(tmp_path, caplog):
    shape = (8, 8, 1)
    splits = {"train": image_examples(30, shape), "test": without_labels(10, shape)}
    store(tmp_path, "contest", image_features(shape), splits)
    store(tmp_path, "places", image_features(shape), splits | {"validation": image_examples(20, shape, seed=1)})
    assert len(datasets.load("places", str(tmp_path)).test) == 20
    held_out = datasets.load("contest", str(tmp_path)).test
    assert len(held_out) == 6  # a fifth of the training images
    assert (held_out.labels >= 0).all()
    assert "contest has no labels in its split test, which is left out" in caplog.text
    store(tmp_path, "bare", image_features(shape), {"train": without_labels(30, shape)})
    with pytest.raises(InputError, match="without a label in its split train"):
        datasets.load("bare", str(tmp_path))


def cut_off(file):
    file.write_bytes(file.read_bytes()[:-1])


def leave_one_out(file):
    """Removes the last record: 12 bytes of length, its data, 4 bytes of checksum."""
    left = file.read_bytes()
    places = [0]
    while places[-1] < len(left):
        places.append(places[-1] + 16 + int.from_bytes(left[places[-1] :][:8], "little"))
    file.write_bytes(left[: places[-2]])


def no_examples(file):
    info = file.parent / "dataset_info.json"
    info.write_text(info.read_text().replace('"20"', '"0"'))


def no_splits(file):
    info = file.parent / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"splits": []}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_splits, ["no splits"]),
        (no_examples, ["split test"]),
        (cut_off, ["split test", "DataLossError"]),
        (leave_one_out, ["split test", "FailedPreconditionError"]),
        (lambda file: file.unlink(), ["split test", "NotFoundError"]),
    ],
)
def test_a_damaged_data_set_is_refused(damage, words, mnist, tmp_path, no_network):
    shutil.copytree(mnist[0], tmp_path / "tfds")
    damage(next(tmp_path.rglob("*mnist-test.tfrecord*")))
    with pytest.raises(InputError) as caught:
        datasets.load("mnist", str(tmp_path / "tfds"))
    assert_one_line(caught, "prepare it again", *words)


@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name"])
def test_a_module_that_a_features_file_names_is_not_imported(key, tmp_path, no_network, monkeypatch):
    store(tmp_path / "tfds", "evil", image_features((8, 8, 1)), {"train": image_examples(30, (8, 8, 1))})
    assert len(datasets.load("evil", str(tmp_path / "tfds")).class_names) == 10
    file = next(tmp_path.rglob("features.json"))
    text = file.read_text().replace("tensorflow_datasets.core.features.image_feature.Image", "evilmod.Image")
    file.write_text(text.replace('"pythonClassName"', f'"{key}"'))
    (tmp_path / "evilmod.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError) as caught:
        datasets.load("evil", str(tmp_path / "tfds"))
    assert_one_line(caught, "features.json", "evilmod.Image", "tensorflow_datasets")
    assert not (tmp_path / "ran").exists()


def test_the_home_folder_is_understood(mnist, no_network, monkeypatch):
    monkeypatch.setenv("HOME", str(mnist[0].parent))
    assert len(datasets.load("mnist", f"~/{mnist[0].name}").test) == 20
    assert not no_network


def test_a_tfds_data_set_is_resized(mnist):
    assert datasets.load("mnist", str(mnist[0]), (14, 20)).image_shape == (14, 20, 1)


def test_a_data_set_without_test_split_has_one_held_out(tmp_path, no_network, caplog):
    examples = image_examples(40, (9, 13, 3))
    store(tmp_path, "trainonly", image_features((9, 13, 3)), {"train": examples})
    dataset = datasets.load("trainonly", str(tmp_path))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (29, 3, 8)
    parts = [image.tobytes() for s in (dataset.train, dataset.validation, dataset.test) for image in s.images]
    assert sorted(parts) == sorted(example["image"].tobytes() for example in examples)  # each once
    assert "no test split" in caplog.text
    np.testing.assert_array_equal(datasets.load("trainonly", str(tmp_path)).test.images, dataset.test.images)


def test_images_of_different_sizes_need_image_size(tmp_path, no_network):
    examples = image_examples(10, (9, 13, 3)) + image_examples(10, (20, 10, 3))
    store(tmp_path, "sizes", image_features((None, None, 3)), {"train": examples, "test": examples})
    with pytest.raises(InputError) as caught:
        datasets.load("sizes", str(tmp_path))
    assert_one_line(caught, "different sizes", "--image_size")
    assert datasets.load("sizes", str(tmp_path), (12, 12)).image_shape == (12, 12, 3)


def test_a_set_that_is_not_image_classification_is_refused(tmp_path, no_network):
    features = tfds.features.FeaturesDict(
        {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=2)}
    )
    store(tmp_path, "reviews", features, {"train": [{"text": "good", "label": 1}, {"text": "bad", "label": 0}]})
    with pytest.raises(InputError) as caught:
        datasets.load("reviews", str(tmp_path))
    assert_one_line(caught, "'reviews'", "not image classification", "--dataset")


def test_16_bit_images_are_not_taken_for_8_bit_ones(tmp_path, no_network):
    features = image_features((9, 13, 1), dtype=np.uint16, encoding_format="png")
    examples = [{"image": np.full((9, 13, 1), 6000 * k, np.uint16), "label": k} for k in range(10)]
    store(tmp_path, "deep", features, {"train": examples, "test": examples})
    try:
        dataset = datasets.load("deep", str(tmp_path))
    except InputError:
        return
    assert dataset.test.as_float().max() <= 1.0
    np.testing.assert_allclose(dataset.test.as_float()[:, 0, 0, 0], np.arange(10) * 6000 / 65535, atol=1 / 255)


@pytest.mark.parametrize(
    ("name", "hint"), [("cifar11", "cifar10"), ("mnsit", "mnist"), ("fashion-mnist", "fashion_mnist")]
)
def test_an_unknown_name_gets_a_near_match(name, hint, tmp_path, no_network):
    with pytest.raises(InputError) as caught:
        datasets.load(name, str(tmp_path))
    assert_one_line(caught, f"unknown data set {name!r}", "did you mean", hint)
    assert not list(tmp_path.iterdir())


def test_a_name_like_no_other_gets_the_catalogue(tmp_path, no_network):
    with pytest.raises(InputError) as caught:
        datasets.load("qqqqqqqqqqqq", str(tmp_path))
    assert_one_line(caught, "catalog")


def test_a_missing_data_dir_is_named(tmp_path):
    with pytest.raises(InputError) as caught:
        datasets.load("mnist", str(tmp_path / "nowhere"))
    assert_one_line(caught, "nowhere", "does not exist")
    assert not list(tmp_path.iterdir())


def test_without_network_an_unprepared_set_is_an_error_that_leaves_nothing(tmp_path, no_network, monkeypatch, caplog):
    waits = []
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda retry, *_: waits.append(retry.get_backoff_time()))
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(InputError) as caught:
        datasets.load("mnist", str(tmp_path))
    assert_one_line(caught, "'mnist'", str(tmp_path), "cannot be downloaded", "--data_dir")
    assert no_network  # it was tried
    assert 0 < sum(waits) <= 4 * 10  # seconds; MNIST is four files, which are asked for at once
    logging.getLogger("urllib3.connectionpool").warning("Retrying")  # as a file's thread may that gives up later
    assert not [record for record in caplog.records if record.name.startswith("urllib3")]
    assert [path.name for path in tmp_path.rglob("*")] == ["mine.txt"]


def test_a_download_that_is_interrupted_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(builder):
        (pathlib.Path(builder.data_dir).with_name("incomplete.3.0.1_abc")).mkdir(parents=True)
        (tmp_path / "downloads" / "some.tmp.abc").mkdir(parents=True)
        (tmp_path / "downloads" / "some.tmp.abc" / "part").write_text("half")
        raise Terminated

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", interrupted)
    with pytest.raises(Terminated):
        datasets.load("mnist", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_called_as_a_tfds_set_must_look_like_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mnist", "digits", "pictures"):
        pathlib.Path(name).mkdir()
    assert not datasets.is_folder("mnist")
    assert not datasets.is_folder("digits")
    assert datasets.is_folder("pictures")  # so that it is said what it lacks
    assert datasets.is_folder(str(tmp_path / "mnist"))
    for name in ("mnist", "digits"):
        pathlib.Path(name, "train").mkdir()
    assert datasets.is_folder("mnist")
    assert not datasets.is_folder("digits")
    with pytest.raises(InputError, match=r"unknown data set 'some/folder'; .*there is no such folder"):
        datasets.load("some/folder")
