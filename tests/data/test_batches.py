"""The order of training images and their augmentation; a continued run sees what an uninterrupted one sees."""

import collections
import itertools

import numpy as np
import pytest

from aigan_tf.data.batches import evaluation_batches, training_batches
from aigan_tf.data.splits import Split


def make_split(count=23, height=9, width=13, channels=3, pixel_max=255):
    """Images without a repeated pixel, so that any move of one can be read off it; the label is its index."""
    images = np.random.default_rng(0).integers(1, pixel_max + 1, (count, height, width, channels)).astype(np.uint8)
    return Split(images, np.arange(count, dtype=np.int32), pixel_max)


def take(split, steps, seed=0, **arguments):
    batches = training_batches(split, 5, seed, **arguments)
    assert batches.options().autotune.enabled is False
    return [(images.numpy(), labels.numpy()) for images, labels in itertools.islice(batches, steps)]


def order_of(count, steps, **arguments):
    return np.concatenate([labels for _, labels in take(make_split(count), steps, **arguments)])


def test_a_pass_delivers_whole_batches_of_different_images():
    passes = [order_of(20, 4, first_step=first) for first in (0, 4, 8)]
    assert [sorted(labels) for labels in passes] == [list(range(20))] * 3
    passes = [order_of(23, 4, first_step=4 * k) for k in range(6)]
    assert {len(set(labels)) for labels in passes} == {20}  # without the partial batch
    assert set(np.concatenate(passes)) == set(range(23))  # of other images each time


def test_the_order_differs_by_pass_and_seed_and_is_reproducible():
    order, again, other = (order_of(20, 8, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(order, again)
    for different in (order[20:], other[:20], np.arange(20)):
        assert (order[:20] != different).any()


@pytest.mark.parametrize("first_step", [1, 3, 4, 5, 9])
def test_a_continued_run_sees_the_tail_of_the_uninterrupted_one(first_step):
    arguments = dict(max_shift=2, flip=True, seed=3)
    whole = take(make_split(), 11, **arguments)  # four steps per pass
    tail = take(make_split(), 11 - first_step, first_step=first_step, **arguments)
    for (expected, expected_labels), (actual, labels) in zip(whole[first_step:], tail, strict=True):
        np.testing.assert_array_equal(labels, expected_labels)
        np.testing.assert_array_equal(actual, expected)


def test_images_are_shifted_every_way_over_black_and_half_of_them_mirrored_in_each_pass():
    split, found = make_split(), collections.defaultdict(list)
    places = list(itertools.product(range(3), range(3), (1, -1)))
    for images, labels in take(split, 40, max_shift=1, flip=True):
        for image, label in zip(images, labels, strict=True):
            padded = np.pad(split.images[label].astype(np.float32) / 255, ((1, 1), (1, 1), (0, 0)))
            (place,) = (place for place in places if (image == window(padded, *place)).all())
            found[label].append(place)
    drawn = [place for own in found.values() for place in own]
    assert set(drawn) == set(places)
    assert 0.35 < np.mean([step == -1 for _, _, step in drawn]) < 0.65
    assert min(len(set(own)) for own in found.values()) > 1


def window(padded, row, column, step):
    return padded[row : row + 9, column : column + 13][:, ::step]


def test_evaluation_delivers_every_image_in_order():
    split = make_split(23, pixel_max=16)
    assert evaluation_batches(split, 5).options().autotune.enabled is False
    images, labels = zip(*evaluation_batches(split, 5), strict=True)
    assert [len(part) for part in labels] == [5, 5, 5, 5, 3]
    np.testing.assert_array_equal(np.concatenate(images), split.as_float())
    np.testing.assert_array_equal(np.concatenate(labels), split.labels)
    assert images[0].dtype == np.float32
