"""What a classifier makes of a clean image on the way to its answer: the maps that its layers put out."""

import math
from collections.abc import Sequence

import keras
import numpy as np

from aigan_tf.build import map_sizes
from aigan_tf.classifiers.model_files import load_keras, load_written
from aigan_tf.classifiers.paths import model_path
from aigan_tf.classifiers.preprocessing import UNCHANGED, Preprocessing
from aigan_tf.config import Config, is_built_in
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.engine.keras_graph import flattened, is_called_once, is_layer_graph
from aigan_tf.engine.keras_state import own_keras_state
from aigan_tf.engine.normalization import with_folded_batch_norm
from aigan_tf.errors import InputError
from aigan_tf.files import atomic_file
from aigan_tf.workdir import Workdir

FIX = "give `classifier_features`=false, or attack a Keras model that is functional or Sequential"


@own_keras_state()
def features_of(
    model: keras.Model,
    image_shape: tuple[int, int, int],
    sizes: Sequence[tuple[int, int]],
    preprocessing: Preprocessing = UNCHANGED,
) -> keras.Model:
    """Returns the part of a classifier up to its last map of each of the generator's sizes, in inference mode.

    Args:
        model: the classifier; it is not changed, and what is returned has the weights of this moment.
        image_shape: `(height, width, channels)`.
        sizes: height and width of each of the generator's maps.
        preprocessing: from images in `[0, 1]` to what the classifier takes.

    Returns:
        A model from float32 images `(batch, height, width, channels)` in `[0, 1]` to a list of maps, float32
        `(batch, height, width, any)`, of those sizes. Where the classifier has none of a size, the last of the nearest size
        is resized.

    Raises:
        InputError: the classifier is not a graph of layers, or has no maps.
    """
    if not is_layer_graph(model):
        raise _unusable("is not a graph of layers")
    model = flattened(model)
    layers = [each for each in model.layers if not isinstance(each, keras.layers.InputLayer)]
    maps = [layer.output for layer in layers if is_called_once(layer)]
    maps = [each for each in maps if len(getattr(each, "shape", ())) == 4 and None not in each.shape[1:]]
    chosen = [_nearest(maps, size) for size in sizes]
    images = keras.Input(image_shape)
    seen = with_folded_batch_norm(keras.Model(model.inputs[0], chosen))(_pixels(images, preprocessing))
    resized = [
        each if each.shape[1:3] == size else keras.layers.Resizing(*size)(each)
        for each, size in zip(seen, sizes, strict=True)
    ]
    features = keras.Model(images, resized)
    features.trainable = False
    return features


def _pixels(images, preprocessing):
    """Returns what the classifier takes, by layers that can be saved."""
    low, high = preprocessing.input_range
    if preprocessing == UNCHANGED:
        return images
    channels = images.shape[-1]
    mean, std = (
        np.broadcast_to(np.float64(default if given is None else given), channels)
        for given, default in ((preprocessing.input_mean, 0.0), (preprocessing.input_std, 1.0))
    )
    if preprocessing.input_channels == "bgr":
        images = keras.ops.flip(images, axis=-1)
    scale, offset = (high - low) / std, (low - mean) / std
    return keras.layers.Rescaling(scale.tolist(), offset.tolist())(images)


def _nearest(maps, size):
    """Returns the last of the maps whose size is nearest."""

    def distance(each):
        return sum(abs(math.log(side / wanted)) for side, wanted in zip(each.shape[1:3], size, strict=True))

    if not maps:
        raise _unusable("puts out no maps before its answer")
    least = min(map(distance, maps))
    return [each for each in maps if distance(each) == least][-1]


def features_for(config: Config, dataset: ImageDataset, folder: Workdir | None = None) -> keras.Model | None:
    """Returns what the generator of a run sees of the classifier; None if it sees nothing of it.

    Args:
        config, dataset: of the run.
        folder: of the run; None if it has not begun, for the user's own classifier. What training has saved is read from it,
            otherwise made of the classifier.

    Raises:
        InputError: the classifier's layers cannot be seen, or the file cannot be loaded.
    """
    if not config.classifier_features:
        return None
    if folder and folder.features.exists():
        folder.verify(folder.features)
        fix = "restore it, or delete it: it is made of the classifier again"
        return load_written(folder.features, "the part of the classifier that the generator sees", fix)
    trained_here = folder and (is_built_in(config.classifier) or config.defense)
    path = folder.classifier if trained_here else model_path(config.classifier)
    if path.is_dir():
        raise _unusable("is not to be had of a SavedModel, which has no layers")
    model = load_keras(path)  # a second time: the first became a function
    return features_of(model, dataset.image_shape, map_sizes(config, dataset.image_shape), Preprocessing.of(config))


def save_features(features: keras.Model, folder: Workdir) -> None:
    """Writes what `features_of` returned into a run's folder, whole or not at all, with its digest."""
    with atomic_file(folder.features) as temporary:
        features.save(temporary)
        folder.seal(folder.features, temporary)


def _unusable(problem):
    return InputError(True, "one whose layers can be seen", FIX, setting="classifier_features", problem=problem)
