"""Model files of every Keras: the same answers as when they were saved."""

import json

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from aigan_tf.classifiers.model_files import load_keras

SHAPE = (8, 8, 3)


def edit(path, change):
    """Changes the configuration in an HDF5 file."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)


def as_keras_2_3(config):
    """The first layer of a Sequential keeps the shape; before 2.2.3 the layers were a bare list."""
    first, *others = config["config"]["layers"]
    others[0]["config"]["batch_input_shape"] = first["config"]["batch_shape"]
    config["config"] = others


def as_keras_2_15(config):
    """Layers name arguments that mean nothing for them."""
    for layer in config["config"]["layers"]:
        if layer["class_name"] in ("DepthwiseConv2D", "SeparableConv2D"):
            layer["config"]["groups"] = 1
        if layer["class_name"] == "SeparableConv2D":
            layer["config"] |= {"kernel_initializer": None, "kernel_regularizer": None, "kernel_constraint": None}


@pytest.mark.parametrize("name", ["model.h5", "model.HDF5", "model", "model.keras", "model.bin"])
@pytest.mark.parametrize("change", [None, as_keras_2_3, as_keras_2_15])
def test_a_file_of_any_age_and_ending_gives_the_same_answers(name, change, tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input(SHAPE),
        layers.Conv2D(4, 3, activation="relu"),
        layers.DepthwiseConv2D(3),
        layers.SeparableConv2D(4, 3),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(5, activation="softmax"),
    ])  # fmt: skip
    in_keras_3 = name in ("model.keras", "model.bin")
    if change and in_keras_3:
        pytest.skip("Keras 2 wrote HDF5")
    saved = tmp_path / f"saved.{'keras' if in_keras_3 else 'h5'}"
    model.save(saved)
    if change:
        edit(saved, change)
    before = saved.read_bytes()
    saved.rename(tmp_path / name)
    images = np.random.default_rng(0).uniform(size=(3, *SHAPE))
    np.testing.assert_allclose(load_keras(tmp_path / name)(images), model(images), atol=1e-6)
    assert (tmp_path / name).read_bytes() == before


def test_an_hdf5_file_runs_no_code_and_weights_alone_are_named(tmp_path):
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, layers.Lambda(lambda x: 2 * x)(inputs))
    model.save(tmp_path / "lambda.h5")
    with pytest.raises(ValueError, match="Lambda"):
        load_keras(tmp_path / "lambda.h5")
    model.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(OSError, match="weights"):
        load_keras(tmp_path / "model.weights.h5")
