"""Batches of a split for training and for evaluation, as tf.data.

Every random choice (the order of a pass, the augmentation) is a function of a seed and a counter, so that a continued run
sees exactly the images that an uninterrupted one sees.
"""

import functools

import numpy as np
import tensorflow as tf

from aigan_tf.config import Config
from aigan_tf.data.splits import Split
from aigan_tf.errors import InputError


def training_batches(
    split: Split,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    max_shift: int = 0,
    flip: bool = False,
) -> tf.data.Dataset:
    """Returns endless shuffled batches of `(images, labels)`, beginning with the batch of step `first_step`.

    Each pass over the split is a new permutation, without its last partial batch.

    Args:
        split: the images to train on.
        batch_size: images per batch, at most `len(split)`.
        seed: with the pass and the step it decides every random choice.
        first_step: batches to skip, which a continued run has already seen.
        max_shift: images move by up to this many pixels each way; black moves in.
        flip: whether half of the images are mirrored left to right.

    Returns:
        A data set of `(float32 (batch, height, width, channels) in [0, 1], int32 (batch,))`.
    """
    examples_at = _reader(split)
    count = len(split)
    steps_per_pass = count // batch_size

    def indices_of(number):
        order = tf.random.experimental.stateless_shuffle(tf.range(count), tf.stack([tf.cast(seed, tf.int64), number]))
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=True)

    def read(step, indices):
        images, labels = examples_at(indices)
        step_seed = tf.stack([tf.cast(seed, tf.int64) + 1, step])  # + 1: another stream than the order's
        return _augment(images, step_seed, max_shift, flip), labels

    passes = tf.data.Dataset.range(first_step // steps_per_pass, 2**62)
    indices = passes.flat_map(indices_of).skip(first_step % steps_per_pass)
    steps = tf.data.Dataset.range(first_step, 2**62)
    return without_autotune(tf.data.Dataset.zip(steps, indices).map(read, num_parallel_calls=1).prefetch(2))


def _augment(images, seed, max_shift, flip):
    """Shifts and mirrors the images of a batch at random, without a loop over them."""
    batch_size = tf.shape(images)[0]
    seeds = tf.random.split(seed, 3)
    if max_shift:
        sides = images.shape[1:3]
        images = tf.pad(images, [[0, 0], [max_shift, max_shift], [max_shift, max_shift], [0, 0]])
        for axis, side in enumerate(sides, start=1):
            starts = tf.random.stateless_uniform((batch_size, 1), seeds[axis - 1], 0, 2 * max_shift + 1, tf.int32)
            images = tf.gather(images, starts + tf.range(side), axis=axis, batch_dims=1)
    if flip:
        mirrored = tf.random.stateless_uniform((batch_size, 1, 1, 1), seeds[2]) < 0.5
        images = tf.where(mirrored, tf.reverse(images, [2]), images)
    return images


def evaluation_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """Returns batches of `(images, labels)` in the split's order, the last partial batch included.

    Returns:
        A data set of `(float32 (batch, height, width, channels) in [0, 1], int32 (batch,))`.
    """
    rows = tf.data.Dataset.range(len(split), output_type=tf.int32).batch(batch_size)
    return without_autotune(rows.map(_reader(split), num_parallel_calls=1).prefetch(2))


def without_autotune(batches):
    """Disables tf.data's autotuning, which has nothing to tune here.

    An iterator ends only when the thread of autotuning wakes; its sleeps double from 10 ms to a minute, so that the end of
    training would wait for it.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


def _reader(split):
    """Returns a function from int32 `(batch,)` rows to their images, float32 in `[0, 1]`, and labels."""
    labels = tf.constant(split.labels)
    if split.on_disk:

        def images_at(rows):
            return tf.numpy_function(lambda rows: np.asarray(split.images[rows]), [rows], tf.uint8)
    else:
        images_at = functools.partial(tf.gather, tf.constant(split.images))

    def examples_at(rows):
        images = tf.ensure_shape(images_at(rows), (rows.shape[0], *split.images.shape[1:]))
        return tf.cast(images, tf.float32) / split.pixel_max, tf.gather(labels, rows)

    return examples_at


def refuse_large_batches(config: Config, split: Split, only_target: int | None = None) -> None:
    """Refuses batches of more images than a training split has.

    Args:
        config: of the run.
        split: the training images, with labels if there is an only target.
        only_target: the single target class, on whose own images nothing is trained; None for several.

    Raises:
        InputError: there are fewer.
    """
    left, others = len(split), ""
    if only_target is not None:
        left, others = int((split.labels != only_target).sum()), " of other classes than the only target"
    if config.batch_size > left:
        raise InputError(
            config.batch_size, f"at most the {left} training images{others}", "lower it", setting="batch_size"
        )


def refuse_too_long_shifts(config: Config, image_shape: tuple[int, ...]) -> None:
    """Refuses a `max_shift` that moves images of `(height, width, channels)` out of sight.

    Raises:
        InputError: it is not smaller than both sides.
    """
    if config.max_shift >= min(image_shape[:2]):
        raise InputError(
            config.max_shift,
            f"less than the smaller side of images of {' x '.join(map(str, image_shape))}",
            "lower it",
            setting="max_shift",
        )
