"""Checks of the paths of a user's own classifier, made before TensorFlow is imported."""

import difflib
import pathlib
from collections.abc import Collection

from aigan_tf.config import ARCHITECTURES, Config, is_built_in
from aigan_tf.errors import InputError
from aigan_tf.files import user_path
from aigan_tf.workdir import Workdir


def model_path(path: str, setting: str = "classifier") -> pathlib.Path:
    """Returns the path of a model file or of a SavedModel folder.

    Raises:
        InputError: there is neither.
    """

    def refuse(problem, expected, fix):
        raise InputError(path, expected, fix, setting=setting, problem=problem)

    source = user_path(path)
    if not source.is_dir():
        if not source.is_file():
            expected = f"one of {', '.join(ARCHITECTURES)}, a Keras model file or a SavedModel folder"
            near = difflib.get_close_matches(path, ARCHITECTURES, 1)
            refuse("does not exist", expected, f"did you mean {near[0]}?" if near else "correct the path")
    elif not (source / "saved_model.pb").exists() and not (source / "saved_model.pbtxt").exists():
        if (source / "classifier.keras").is_file():
            refuse("is a run's folder", "a file or a SavedModel folder", f"give {source / 'classifier.keras'}")
        files = sorted(file for file in source.iterdir() if file.suffix in (".keras", ".h5", ".hdf5"))
        refuse(
            "cannot be loaded (it holds no saved_model.pb)",
            "a SavedModel with the signature serving_default",
            f"give e.g. {files[0]}" if files else "export it with model.export",
        )
    return source


def python_file(file: str) -> pathlib.Path:
    """Returns the path of a file of `custom_objects`.

    Raises:
        InputError: it does not exist, or is not a Python file.
    """
    source = user_path(file)
    if not source.is_file() or source.suffix != ".py":
        raise InputError(
            file,
            "an existing file whose name ends in .py",
            "correct the path",
            setting="custom_objects",
            problem="is not a Python file",
        )
    return source


def refuse_missing_files(config: Config) -> None:
    """Refuses a missing model file of the user's own, or a missing Python file.

    Raises:
        InputError: one does not exist.
    """
    if config.custom_objects:
        python_file(config.custom_objects)
    if not is_built_in(config.classifier):
        model_path(config.classifier)


def refuse_unnamed_python(config: Config, folder: Workdir, custom_objects: Collection[str]) -> None:
    """Refuses a run's folder that would execute Python which the user does not name; someone else may have made it.

    Args:
        config, folder: the run.
        custom_objects: the Python files that the user names.

    Raises:
        InputError: it would, or one of the files is not a Python file.
    """
    named = [python_file(file).resolve() for file in custom_objects]
    if config.custom_objects and user_path(config.custom_objects).resolve() not in named:
        raise InputError(
            config.custom_objects,
            "you to name this Python file too, since it would be executed",
            f"give `custom_objects`={config.custom_objects} if you trust it",
            setting="custom_objects",
            place=str(folder.config),
        )
