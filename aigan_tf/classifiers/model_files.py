"""Reads Keras's model files of every age, and the Python that registers their custom layers."""

import importlib.util
import inspect
import io
import json
import math
import os
import pathlib
import shutil
import tempfile
import zipfile

import h5py
import keras

from aigan_tf.classifiers import allow_list, limits
from aigan_tf.classifiers.paths import python_file
from aigan_tf.engine.keras_weights import at_most_weights
from aigan_tf.engine.saved_model import first_line
from aigan_tf.errors import InputError
from aigan_tf.files import require_regular_file

HDF5_START = b"\x89HDF\r\n\x1a\n"
# Written by Keras 2 into layers for which they mean nothing, and refused there by Keras 3.
OBSOLETE = {
    "groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint", "rng_type", "query_shape", "key_shape",
    "value_shape", "softmax_robust_masking",
}  # fmt: skip
SHAPE_KEYS = ("batch_input_shape", "batch_shape")


def load_keras(path: pathlib.Path) -> keras.Model:
    """Returns the model of a file, in the format that its first bytes tell: .keras, or HDF5 of any Keras.

    Raises:
        Exception: anything that Keras or HDF5 raises; OSError or `zipfile.BadZipFile` if the file is neither, or damaged;
            ValueError if it names what `allow_list` lacks, or asks for more than `limits` has.
    """
    require_regular_file(path)
    with open(path, "rb") as file:
        is_hdf5 = file.read(len(HDF5_START)) == HDF5_START
    if not is_hdf5 and not zipfile.is_zipfile(path):
        raise OSError("it is neither a .keras file nor HDF5")
    with tempfile.TemporaryDirectory() as folder:
        checked, stored = (_checked_hdf5 if is_hdf5 else _checked_archive)(path, pathlib.Path(folder))
        with at_most_weights(stored + limits.MAX_EXTRA_WEIGHTS):
            return keras.models.load_model(checked, compile=False, safe_mode=True)


def load_written(path: pathlib.Path, expected: str, fix: str) -> keras.Model:
    """Returns the model of a file that train.py wrote; `expected` and `fix` end the message of an error.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        return load_keras(path)
    except Exception as error:  # whatever Keras raises for a damaged file
        raise InputError(f"{path} cannot be loaded ({first_line(error)})", expected, fix) from error


def _checked_archive(path, folder):
    """Returns a link to a .keras file, or a folder with its content if its configuration may not stay as it is.

    Keras reads such a folder as well. A link needs no room on the disk. Also returns how many weights are stored.
    """
    with zipfile.ZipFile(path) as archive:
        if missing := {"config.json", "model.weights.h5"}.difference(archive.namelist()):
            raise OSError(f"it is neither a .keras file nor HDF5: it lacks {min(missing)}")
        members = archive.infolist()
        # Of other methods Python decompresses a whole block, whatever size the member has.
        if any(each.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for each in members):
            raise ValueError("it is compressed by another method than deflate")
        if len(members) > limits.MAX_MEMBERS:
            raise ValueError(f"it asks for {len(members):,} files")
        _refuse_bomb(sum(each.file_size for each in members), path)
        if damaged := archive.testzip():  # Keras ignores checksums
            raise zipfile.BadZipFile(f"{damaged} in it is damaged")
        stored = _stored_weights(io.BytesIO(archive.read("model.weights.h5")), path)
        _refuse_large_config(archive.getinfo("config.json").file_size)
        written = json.loads(archive.read("config.json"))
        config = allow_list.checked(written)
        written.pop("compile_config", None)  # of the whole model Keras leaves it out itself
        if config == written:
            return _linked(path, folder / "model.keras"), stored
        archive.extractall(folder)
    (folder / "config.json").write_text(json.dumps(config))
    return folder, stored


def _refuse_large_config(size):
    if size > limits.MAX_CONFIG:
        raise ValueError(f"it asks for a configuration of {size:,} bytes")


def _linked(path, named):
    """Returns a link to a file, since Keras goes by the ending of its name."""
    os.symlink(path.absolute(), named)
    return named


def _refuse_bomb(size, path):
    """Refuses content of `size` bytes if the file that holds it is far smaller."""
    if size > max(limits.UNSUSPICIOUS, limits.MAX_EXPANSION * path.stat().st_size):
        raise ValueError(f"a file of {path.stat().st_size:,} bytes asks for {size:,} bytes of memory")


def _stored_weights(hdf5, path):
    """Returns how many numbers an HDF5 file stores; refuses one whose arrays are far larger than the file at `path`.

    The file may lie in an archive at `path`. Keras refuses large arrays from 4 GiB on, and links.
    """
    arrays = []

    def keep(name, found):
        if isinstance(found, h5py.Dataset):
            arrays.append((math.prod(found.shape or ()), found.dtype.itemsize))

    with h5py.File(hdf5) as file:
        file.visititems(keep)
    _refuse_bomb(sum(count * size for count, size in arrays), path)
    return sum(count for count, _ in arrays)


def _checked_hdf5(path, folder):
    """Returns a link to an HDF5 file, or a copy if Keras 3 does not understand its configuration as it is.

    Also returns how many weights are stored.
    """
    stored = _stored_weights(path, path)
    with h5py.File(path) as file:
        written = file.attrs.get("model_config")
    if written is None:
        raise OSError("it holds weights without a model")
    _refuse_large_config(len(written))
    config = allow_list.checked(json.loads(written))
    _update(config)
    named = folder / "model.h5"
    if config == json.loads(written):
        return _linked(path, named), stored
    shutil.copyfile(path, named)
    with h5py.File(named, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    return named, stored


def _update(layer):
    """Changes the configuration of a layer of Keras 2, and of the layers in it, to what Keras 3 understands."""
    config = layer.get("config")
    if layer.get("class_name") == "Sequential" and isinstance(config, list):  # before Keras 2.2.3
        layer["config"] = config = {"name": "sequential", "layers": config}
    if not isinstance(config, dict):
        return
    for key in [key for key in config if not _accepts(getattr(keras.layers, layer["class_name"], None), key)]:
        del config[key]
    layers = [each for each in (*config.get("layers", ()), config.get("layer")) if isinstance(each, dict)]
    if layer["class_name"] == "Sequential" and layers and layers[0]["class_name"] != "InputLayer":
        shape = next((layers[0]["config"][key] for key in SHAPE_KEYS if key in layers[0].get("config", ())), None)
        if shape is not None:
            config["layers"].insert(0, {"class_name": "InputLayer", "config": {"batch_shape": shape}})
    for inner in layers:
        if inner["class_name"] != "InputLayer" and isinstance(inner.get("config"), dict):
            for key in SHAPE_KEYS:
                inner["config"].pop(key, None)
        _update(inner)


def _accepts(kind, key):
    """Whether a class of layers takes an argument; any that is not Keras's own is trusted with its own."""
    if not isinstance(kind, type) or issubclass(kind, keras.Model):
        return True
    parameters = inspect.signature(kind).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return key in parameters or (takes_any and key not in OBSOLETE)


def run_python(file: str) -> None:
    """Runs a Python file that registers custom layers.

    Raises:
        InputError: it is not a Python file, or it fails.
    """
    spec = importlib.util.spec_from_file_location("aigan_tf_custom_objects", python_file(file))
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except (Exception, SystemExit) as error:
        reason = "it exits" if isinstance(error, SystemExit) else first_line(error)
        raise InputError(
            file,
            "Python that registers the classifier's custom layers",
            f"run python {file} to see the whole error",
            setting="custom_objects",
            problem=f"fails ({reason})",
        ) from error
