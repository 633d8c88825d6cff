"""Data sets from folders of class folders."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.data import datasets, splits
from aigan_tf.errors import InputError


def assert_holds(dataset, pixels):
    """Each image lies in the split and the class of its file; none is missing."""
    parts = (dataset.train, dataset.validation, dataset.test)
    assert sorted(file for split in parts for file in split.files) == sorted(pixels)
    for split in parts:
        assert split.images.shape[1:] == dataset.image_shape
        for image, label, file in zip(np.asarray(split.images), split.labels, split.files, strict=True):
            np.testing.assert_array_equal(image, pixels[file])
            assert file.startswith(f"{'test' if split is dataset.test else 'train'}/{dataset.class_names[label]}/")


@pytest.mark.parametrize("shape", [(9, 13, 1), (9, 13, 3), (8, 8, 3), (9, 13, 4)])
def test_a_folder_is_loaded_whole_without_its_alpha_channel(shape, write_folder, tmp_path, no_network):
    pixels = write_folder(tmp_path, shape)
    dataset = datasets.load(str(tmp_path))
    assert dataset.image_shape == (*shape[:2], min(shape[2], 3))
    assert dataset.class_names == ("cat", "dog")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (7, 1, 4)
    assert_holds(dataset, {file: image[..., :3] for file, image in pixels.items()})
    # The test images are not sorted by class, and in the same order each time.
    assert dataset.test.labels.tolist() not in ([0, 0, 1, 1], [1, 1, 0, 0])
    np.testing.assert_array_equal(datasets.load(str(tmp_path)).test.images, dataset.test.images)
    assert not no_network


@pytest.mark.parametrize("grey", [("train/cat/0.png", "test/dog/1.png"), ("train/cat/2.png",), ("test/",)])
@pytest.mark.parametrize("room", [splits.MAX_IN_MEMORY, 0])
def test_grey_images_become_colour(room, grey, write_folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(splits, "MAX_IN_MEMORY", room)
    pixels = write_folder(tmp_path, grey=grey)
    assert_holds(datasets.load(str(tmp_path)), pixels)
    (record,) = caplog.records
    assert f"{sum(path.startswith(grey) for path in pixels)} of 12" in record.getMessage()


def test_other_files_are_skipped_with_a_warning(write_folder, tmp_path, caplog):
    write_folder(tmp_path)
    cats = tmp_path / "train" / "cat"
    (cats / ".DS_Store").write_bytes(b"")
    (cats / "9.JPG").write_bytes(tf.io.encode_jpeg(np.full((9, 13, 3), 200, np.uint8)).numpy())
    (cats / "0.png").rename(cats / os.fsdecode(b"\xff.png"))
    dataset = datasets.load(str(tmp_path))
    assert len(dataset.train) + len(dataset.validation) == 9
    assert not caplog.records
    (cats / "5.webp").write_bytes(b"")
    (tmp_path / "test" / "dog" / "more").mkdir()
    datasets.load(str(tmp_path))
    (record,) = caplog.records
    assert "skipped 2" in record.getMessage()


BIG = tf.io.encode_png(np.zeros((20, 30, 3), np.uint8)).numpy()


@pytest.mark.parametrize("places", ["train/dog/0.png", "test/*/*.png"])
def test_images_of_different_sizes_need_image_size(places, write_folder, tmp_path):
    write_folder(tmp_path)
    for file in tmp_path.glob(places):
        file.write_bytes(BIG)
    with pytest.raises(InputError, match="20 x 30"):
        datasets.load(str(tmp_path))
    assert datasets.load(str(tmp_path), image_size=(16, 10)).image_shape == (16, 10, 3)


def rename_class(root):
    for split in ("train", "test"):
        (root / split / "dog").rename(root / split / "do\ng")


def add_image(content):
    return lambda root: (root / "train" / "dog" / "bad.png").write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda root: shutil.rmtree(root / "test"), "test/"),
        (lambda root: (root / "test" / "bird").mkdir(), "'bird'"),
        (lambda root: [(root / split / "empty").mkdir() for split in ("train", "test")], "empty"),
        (rename_class, r"do\ng"),
        (add_image(b"no picture"), "bad.png"),
        (add_image(b"\x89PNG\r\n\x1a\n cut off"), "bad.png"),
        (lambda root: os.mkfifo(root / "train" / "cat" / "x.png"), "x.png"),  # reading it would block forever
    ],
)
def test_an_unusable_folder_is_refused(damage, word, write_folder, tmp_path):
    write_folder(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError) as error:
        datasets.load(str(tmp_path))
    assert word in str(error.value)
