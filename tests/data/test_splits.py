"""Splits in memory and in files."""

import tempfile
from unittest import mock

import numpy as np
import pytest

from aigan_tf.data import datasets, splits


@pytest.fixture
def mapped(tmp_path, monkeypatch):
    """Digits that are too large for memory."""
    monkeypatch.setattr(splits, "MAX_IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dataset = datasets.load("digits", image_size=(9, 9))
    assert dataset.train.on_disk
    assert not list(tmp_path.iterdir())  # the file has no name: nothing is left when the process ends
    return dataset


@pytest.fixture(scope="module")
def held():
    """The same digits in memory."""
    return datasets.load("digits", image_size=(9, 9))


def test_a_split_on_disk_is_the_one_in_memory_and_its_parts_share_the_file(mapped, held, monkeypatch):
    assert not held.train.on_disk
    for name in ("train", "validation", "test"):
        for attribute in ("images", "labels"):
            one, other = (getattr(getattr(dataset, name), attribute) for dataset in (mapped, held))
            np.testing.assert_array_equal(one, other)
    assert mapped.train.channel_statistics() == held.train.channel_statistics()
    assert type(mapped.train.as_float()) is np.ndarray
    monkeypatch.setattr(splits.tempfile, "TemporaryFile", mock.Mock(side_effect=AssertionError))
    few = mapped.train.take(np.array([5, 2, 5])).take(slice(1, None))
    assert few.on_disk
    np.testing.assert_array_equal(few.as_float(), held.train.as_float()[[2, 5]])


def test_channel_statistics_are_those_of_the_pixels():
    images = np.random.default_rng(0).integers(0, 256, (2500, 5, 7, 3)) // np.array([1, 2, 256])  # the last one: black
    mean, std = splits.Split(images.astype(np.uint8), np.zeros(2500, np.int32)).channel_statistics()
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)) + 1e-6, rtol=1e-9)
    assert std[2] > 0
