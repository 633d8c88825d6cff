"""The inputs of the attack command, checked before TensorFlow is imported."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from aigan_tf.data import pictures
from aigan_tf.data.classes import class_number, listed
from aigan_tf.errors import InputError, shown_value
from aigan_tf.exported import ExportInfo, read_export_info
from aigan_tf.files import different_names, user_path, visible_files, with_numbers

ALL = "all"  # the target that stands for each class
FOLDER = "adversarial"  # of several results
SHIPPED = pathlib.Path(__file__).parents[1] / "pretrained"  # in a checkout; an installed package lacks it
MIN_EPSILON = 1 / 255  # below it, rounding to 8 bits leaves the clean picture


@dataclasses.dataclass(frozen=True)
class AttackPlan:
    """A checked attack: the pictures, the classes, the budget and the output.

    Args:
        export: the generator.
        names: name of each picture's results, all different.
        changes: how each picture was changed to fit, in words; empty if it was not.
        pixels: uint8 `(n, height, width, channels)`, the pictures as the generator takes them.
        classes: the classes that each picture is attacked with: targets, or the one label of an untargeted generator; None
            for the classifier's answer.
        epsilon: budget as a fraction of the pixel range; None for the generator's largest.
        out: the PNG file, or the folder if there are several results.
    """

    export: ExportInfo
    names: list[str]
    changes: list[str]
    pixels: np.ndarray
    classes: list[int] | None
    epsilon: float | None
    out: pathlib.Path

    @property
    def is_single(self) -> bool:
        """Whether there is one result, so that `out` is its file."""
        return len(self.names) * len(self.classes or [None]) == 1

    @property
    def figure(self) -> pathlib.Path:
        """The figure of a single result."""
        return _figure_beside(self.out)

    def result_name(self, name: str, target: int) -> str:
        """Returns the name of one result, without its ending."""
        return _result_name(self.export, name, target)


def make_plan(
    given: Sequence[str],
    generator: str | None = None,
    target: str | None = None,
    label: str | None = None,
    epsilon: float | None = None,
    out: str | None = None,
) -> AttackPlan:
    """Checks the inputs of the attack command, and reads the pictures.

    Args:
        given: paths of image files and of folders of them.
        generator: the folder of a run or of a SavedModel; None for the shipped one.
        target: the class to reach, by name or number, or `ALL`.
        label: in its place for an untargeted generator: the class of the pictures; None for the classifier's answer.
        epsilon: a budget, for a generator that takes one.
        out: the PNG file to write or, for several results, the folder, which must be new; None for a name that is free.

    Raises:
        InputError: something does not fit.
    """
    if out is not None:
        _check_ending(out)
    paths = _picture_files(given)
    export = read_export_info(generator or _shipped_generator(), "generator")
    classes = _classes(export, target, label)
    _check_epsilon(export, epsilon)
    names = different_names(path.stem for path in paths)
    count = len(paths) * len(classes or [None])
    if out is None:
        place = _free_place(_result_name(export, names[0], (classes or [None])[0]) if count == 1 else FOLDER, count)
    else:
        place = _given_place(out, count)
    fitted = [pictures.fitted(path, export.image_shape) for path in paths]
    pixels = np.stack([pixels for pixels, _ in fitted])
    return AttackPlan(export, names, [changes for _, changes in fitted], pixels, classes, epsilon, place)


def _shipped_generator():
    path = SHIPPED / "cifar10"
    if not path.is_dir():
        raise InputError(
            "no generator is given, and none lies beside the package",
            "the folder of a finished run, such as those in pretrained/ of the repository",
            "train one, e.g. python -m aigan_tf train --dataset=cifar10, and give `generator`=runs/cifar10",
        )
    return path


def _classes(export, target, label):
    """Returns the numbers of the classes to attack with; None for the classifier's answers."""
    wanted, other = ("target", "label") if export.targeted else ("label", "target")
    given = {"target": target, "label": label}
    if given[other] is not None:
        raise InputError(
            given[other],
            f"`{wanted}` for {export.path}, a{' ' if export.targeted else 'n un'}targeted generator",
            f"give `{wanted}`",
            setting=other,
            problem="does not fit the generator",
        )
    if given[wanted] is None:
        if not export.targeted:
            return None
        raise InputError(
            f"no target class is given for {export.path}",
            f"one of {listed(export.class_names)}, or {ALL}",
            f"give `target`, e.g. `target`={export.class_names[0]}",
        )
    if target == ALL and ALL not in export.class_names:
        return list(export.classes)
    number = class_number(given[wanted], export.class_names, wanted)
    if number not in export.classes:
        served = [export.class_names[each] for each in export.classes]
        raise InputError(
            given[wanted],
            f"one of {listed(served)}, which the generator was trained for",
            "choose one of them",
            setting=wanted,
        )
    return [number]


def _check_epsilon(export, epsilon):
    if epsilon is None:
        return
    largest = shown_value(export.epsilon)
    if not export.variable_epsilon:
        raise InputError(epsilon, f"none: this generator has one budget, {largest}", "leave it out", setting="epsilon")
    if not MIN_EPSILON - 1e-9 <= epsilon <= export.epsilon + 1e-9:
        raise InputError(epsilon, f"1/255 to {largest}, as trained", f"give e.g. {largest}", setting="epsilon")


def _picture_files(given):
    """Returns the files that are given, and those in the folders that are."""
    if not given:
        raise InputError("no PICTURE", "image files, or folders of them", "give e.g. photo.jpg")
    files = []
    for path in map(user_path, given):
        found = [path]
        if path.is_dir():
            found = [file for file in visible_files(path, deep=False) if file.suffix.lower() in pictures.SUFFIXES]
            if not found:
                raise InputError(
                    f"{path} holds no picture", f"files in {', '.join(pictures.SUFFIXES)}", "correct the path"
                )
        files += found
    return files


def _result_name(export, name, target):
    if not export.targeted:
        return f"{name}_adversarial"
    safe = [re.sub(r"[^\w-]+", "_", each) for each in export.class_names]
    return f"{name}_{safe[target]}" if safe.count(safe[target]) == 1 else f"{name}_{safe[target]}_{target}"


def _figure_beside(path):
    return path.with_name(f"{path.stem}_figure.png")


def _check_ending(out):
    """Refuses a picture that would not keep the pixels."""
    path = pathlib.Path(out)
    if path.suffix.lower() in pictures.SUFFIXES and path.suffix.lower() != ".png":
        expected = "a name that ends in .png, since other formats may change the pixels"
        raise InputError(out, expected, f"give `out`={path.with_suffix('.png')}", setting="out")


def _given_place(out, count):
    """Returns the user's file or folder."""
    path = user_path(out)
    is_png = path.suffix.lower() == ".png"
    if count == 1 and not is_png:
        raise InputError(out, "a file that ends in .png", f"give `out`={path}.png", setting="out")
    if count > 1 and is_png:
        raise InputError(out, f"a folder for {count} pictures", f"give `out`={path.with_suffix('')}", setting="out")
    for place in _places(path, count):
        if os.path.lexists(place):
            problem = f"would replace {place}"
            raise InputError(out, "a new name", "choose another, or remove it", setting="out", problem=problem)
    return path


def _free_place(stem, count):
    """Returns the first of STEM, STEM_2, ... in the current folder that would replace nothing."""
    paths = (pathlib.Path(f"{name}.png" if count == 1 else name) for name in with_numbers(stem))
    return next(path for path in paths if not any(map(os.path.lexists, _places(path, count))))


def _places(path, count):
    return (path, _figure_beside(path)) if count == 1 else (path,)
