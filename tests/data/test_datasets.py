"""Data sets by name, the embedded digits, and class names from a file."""

import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from aigan_tf.config import make_config
from aigan_tf.data import datasets
from aigan_tf.errors import InputError


def test_digits_are_split_as_documented_without_the_network_whatever_the_seeds(digits, no_network):
    bunch = load_digits()
    pixels = bunch.images[..., np.newaxis].astype(np.float32) / 16
    assert digits.image_shape == (8, 8, 1)
    assert digits.class_names == tuple("0123456789")
    np.testing.assert_array_equal(digits.test.as_float(), pixels[-300:])
    np.testing.assert_array_equal(digits.test.labels, bunch.target[-300:])
    assert digits.test.as_float().dtype == np.float32

    np.random.seed(2)
    tf.random.set_seed(3)
    again = datasets.load("digits")
    assert not no_network
    resized = datasets.load("digits", image_size=(28, 20)).test
    assert (resized.images.shape, resized.pixel_max) == ((300, 28, 20, 1), 255)
    np.testing.assert_allclose(resized.as_float().mean((1, 2, 3)), digits.test.as_float().mean((1, 2, 3)), atol=0.03)
    # Validation and training data are the other 1,497, each once; each index is found by its pixels.
    index_of = {image.tobytes(): k for k, image in enumerate(pixels[:-300])}
    found = {}
    for name in ("train", "validation"):
        split = getattr(digits, name)
        found[name] = [index_of[image.tobytes()] for image in split.as_float()]
        np.testing.assert_array_equal(split.labels, bunch.target[found[name]])
        np.testing.assert_array_equal(getattr(again, name).images, split.images)
        np.testing.assert_array_equal(getattr(again, name).labels, split.labels)
    assert sorted(found["train"] + found["validation"]) == list(range(1497))
    assert len(found["validation"]) == 149
    assert max(found["validation"]) - min(found["validation"]) > 1000  # not simply the last ones


def test_a_folder_wins_over_a_tfds_name_only_with_train_in_it_and_data_dir_must_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mnist", "digits", "pictures"):
        pathlib.Path(name).mkdir()
    # An error shall say what pictures/ lacks.
    assert list(map(datasets.is_folder, ["mnist", "digits", "pictures", "./mnist"])) == [False, False, True, True]
    for name in ("mnist", "digits"):
        pathlib.Path(name, "train").mkdir()
    assert list(map(datasets.is_folder, ["mnist", "digits"])) == [True, False]
    with pytest.raises(InputError) as error:
        datasets.load("mnist:3.0.1", str(tmp_path / "nowhere"))
    assert error.value.setting == "data_dir"
    assert not (tmp_path / "nowhere").exists()


NAMES = tuple(f"digit {k}" for k in range(10))


@pytest.mark.parametrize("content", ["\n".join(NAMES), "\ufeff" + "\r\n".join(NAMES) + "\r\n\r\n"])
def test_class_names_are_read_from_a_file(content, tmp_path):
    (tmp_path / "names.txt").write_bytes(content.encode())
    config = make_config(class_names=str(tmp_path / "names.txt"))
    assert datasets.load_dataset(config, None).class_names == NAMES


@pytest.mark.parametrize("names", [("dog", "cat"), ("bird", "dog", "cow", "cat"), ("dog", "cats")])
def test_class_names_of_a_folder_order_its_classes_or_are_refused(names, write_folder, tmp_path):
    write_folder(tmp_path / "data")
    (tmp_path / "names.txt").write_text("\n".join(names))
    config = make_config(dataset=str(tmp_path / "data"), class_names=str(tmp_path / "names.txt"))
    if "cat" not in names:
        with pytest.raises(InputError) as error:
            datasets.load_dataset(config, None)
        assert error.value.setting == "class_names"
        return
    dataset = datasets.load_dataset(config, None)
    assert dataset.class_names == names
    for split in (dataset.train, dataset.validation, dataset.test):
        for image, label, file in zip(split.images, split.labels, split.files, strict=True):
            assert f"/{names[label]}/" in file
            np.testing.assert_array_equal(image, tf.io.decode_png((tmp_path / "data" / file).read_bytes()))


@pytest.mark.parametrize("names", [NAMES[:9], NAMES[:9] + NAMES[:1], (*NAMES[:9], "ni\x1bne"), ("\xff",), None])
def test_unfit_class_names_are_refused(names, tmp_path):
    file = tmp_path / "names.txt"
    if names is None:
        os.mkfifo(file)  # reading it would block forever
    else:
        file.write_bytes("\n".join(names).encode("latin-1"))
    with pytest.raises(InputError) as error:
        datasets.load_dataset(make_config(class_names=str(file)), None)
    assert error.value.setting == "class_names"
