"""What is known of an exported generator, and of its formats, without TensorFlow."""

import dataclasses
import importlib.util
import json
import os
import pathlib

from aigan_tf.errors import InputError
from aigan_tf.files import latest_version, read_bytes, user_path

FORMATS = ("savedmodel", "onnx", "keras")


@dataclasses.dataclass(frozen=True)
class ExportInfo:
    """The settings of an exported generator.

    Args:
        path: the folder that the user gave: of a run, of its versions, or of one of them.
        version: the SavedModel.
        class_names: name of each class.
        image_shape: `(height, width, channels)` of its images.
        epsilon: its largest budget, a fraction of the pixel range.
        targeted: whether the class that it is given is the one to reach; else it is the label.
        variable_epsilon: whether it takes smaller budgets.
        classes: the numbers of the classes that it serves.
    """

    path: pathlib.Path
    version: pathlib.Path
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    epsilon: float
    targeted: bool
    variable_epsilon: bool
    classes: tuple[int, ...]


def check_format(file_format: str, export_classifier: bool, bfloat16: bool) -> None:
    """Checks that a generator can be exported in one of `FORMATS`.

    Args:
        file_format, export_classifier, bfloat16: as in `training.run.export_run`.

    Raises:
        InputError: it is for SavedModels alone, or needs a package that is not installed.
    """
    for name, asked in (("export_classifier", export_classifier), ("bfloat16", bfloat16)):
        if asked and file_format != "savedmodel":
            raise InputError(file_format, f"savedmodel with `{name}`", "leave one of them out", setting="format")
    if file_format == "onnx" and importlib.util.find_spec("tf2onnx") is None:
        expected, fix = "the packages of the extra [onnx]", "run pip install tf2onnx"
        raise InputError(file_format, expected, fix, setting="format", problem="needs tf2onnx, which is not installed")


def exported_version(path: pathlib.Path) -> pathlib.Path | None:
    """Returns the SavedModel in a run's folder (its newest) or in a folder of versions, or `path` itself; None without one."""
    return path if (path / "saved_model.pb").exists() else latest_version(path / "generator") or latest_version(path)


def require_version(path: pathlib.Path, setting: str) -> pathlib.Path:
    """Returns `exported_version`, or refuses a folder without one.

    Args:
        path: the folder of a run, of a generator's versions, or of a SavedModel.
        setting: the setting that gave it.

    Raises:
        InputError: there is none.
    """
    version = exported_version(path)
    if version is None:
        problem = "holds no generator" if path.is_dir() else "is not a folder"
        expected = "the folder of a finished run, or of a SavedModel that aigan_tf exported"
        raise InputError(path, expected, "correct the path", setting=setting, problem=problem)
    return version


def read_export_info(path: str | os.PathLike, setting: str) -> ExportInfo:
    """Reads the files beside an exported generator.

    Args:
        path, setting: as in `require_version`.

    Raises:
        InputError: there is no generator, or its files are damaged.
    """
    folder = user_path(path)
    version = require_version(folder, setting)
    assets = version / "assets"
    try:
        preset = json.loads(read_bytes(assets / "preset.json"))
        names = tuple(read_bytes(assets / "class_names.txt").decode().splitlines())
        height, width, channels = map(int, preset["image_shape"])
        if channels not in (1, 3) or min(height, width) < 1 or not names:
            raise ValueError
        return ExportInfo(
            folder,
            version,
            names,
            (height, width, channels),
            float(preset["epsilon"]),
            preset["attack"] == "targeted",
            bool(preset["variable_epsilon"]),
            tuple(map(int, preset.get("classes", range(len(names))))),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            path,
            "preset.json and class_names.txt, as the export wrote them",
            "export the generator again",
            setting=setting,
            problem=f"lacks what is known of the generator in {assets}",
        ) from error
