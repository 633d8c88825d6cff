"""Gives the package thousands of damaged configs, flags and files and looks at what it makes of each.

    python tests/fuzz_inputs.py --examples=10000 --output=docs/results/fuzz.json

Each must be refused in one line that says what was expected, or taken as what it is: settings within what the help
texts say, and of files exactly what comes out where nothing is damaged. No file may be changed but in evaluation/.
Exits with 1 if anything else happens.
"""

import argparse
import collections
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import aigan_tf  # noqa: F401 isort: skip (before TensorFlow: it sets oneDNN)
import damage
import hypothesis
import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from commands import run_in_process
from PIL import Image

from aigan_tf import cli, preparation, workdir
from aigan_tf.classifiers import architectures, black_box, loading, training
from aigan_tf.classifiers import training as classifier_training
from aigan_tf.classifiers.black_box import BlackBox
from aigan_tf.config import Config, before_they_existed, make_config
from aigan_tf.data import datasets
from aigan_tf.engine import callbacks
from aigan_tf.errors import InputError
from aigan_tf.evaluation import attacks as build_attacks
from aigan_tf.evaluation import compare
from aigan_tf.files import read_csv, write_json
from aigan_tf.training import advgan
from aigan_tf.training import run as training
from aigan_tf.workdir import Workdir, digest_of

TINY = dict(
    dataset="digits", classifier_epochs=2, steps_per_epoch=3, stage1_epochs=2, stage2_epochs=2, switch_success=1.0,
    batch_size=32, attack_steps=2, generator_width=4, generator_blocks=1,
)  # fmt: skip
SHARES = {  # of the examples; those that load models take a hundred times as long
    "config.json": 0.386,
    "flags of train.py": 0.30,
    "flags of evaluate.py": 0.15,
    "image folder": 0.07,
    "TFDS folder": 0.02,
    "classifier of one's own": 0.015,
    "config.json, evaluated": 0.005,
    "work folder, evaluated": 0.008,
    "work folder, trained on": 0.004,
    "interrupted work folder, gone on with": 0.002,
    "classifiers beside the run": 0.01,
    "files of names and layers": 0.03,
}
# What the help texts say, a second time: what is refused is decided elsewhere.
WHOLE = 2**31 - 1
DOCUMENTED = {
    **{name: (0, WHOLE) for name in (
        "classifier_epochs", "stage1_epochs", "stage2_epochs", "steps_per_epoch", "max_shift", "seed",
    )},
    **{name: (1, WHOLE) for name in ("queries_per_epoch", "attack_steps", "batch_size")},
    "generator_width": (1, 1024), "generator_blocks": (0, 100), "class_maps": (0, 64), "discriminator_width": (1, 1024),
    **{name: (0, sys.float_info.max) for name in ("gan_weight", "hinge_weight", "hinge_threshold")},
    "attack_step_size": (0, 1),
    **{name: (5e-324, sys.float_info.max) for name in ("learning_rate", "discriminator_learning_rate")},
    "epsilon": (0.999 / 255, 1), "switch_success": (5e-324, 1),
    "attack": ("targeted", "untargeted"), "switch": ("auto", "fixed"), "optimizer": ("muon", "adam"), "bound": ("projection", "tanh"),
    "defense": ("", "fgsm", "ensemble", "pgd", "aigan"),
}  # fmt: skip
ANOTHER = "accepted as another model"
RIGHT = ("refused", "accepted", ANOTHER)
PARSE = {
    bool: lambda text: text.lower() in ("true", "t", "1"),
    int: lambda text: int(text, 16 if "x" in text else 10),
    float: float,
    str: str,
}
# What of a work folder is read again: by both commands, where the run is finished; by evaluate.py; by train.py.
READ = ["config.json", "digests.json", "classifier.keras", "*.weights.h5", "metrics.csv"]
EXPORTED = ["generator", "*/1/*", "*/1/variables/*", "advgan"]
EVALUATED = [*READ, *EXPORTED, "advgan/3", "advgan/3/*", "transfer", "transfer/*", "transfer/small/*"]
WRITTEN = ["logs", "samples", "samples/*", "checkpoints", "checkpoints/*", "checkpoints/aigan/*"]
LAYERS = """
import keras

@keras.saving.register_keras_serializable("fuzzed")
class Doubling(keras.layers.Layer):
    def call(self, inputs):
        return 2.0 * inputs
"""


class Accepted(BaseException):
    """Ends a command where its work would begin; with what it was to work on."""


def accept(*arguments, **settings):
    raise Accepted(*arguments)


def settings_wrong(values: dict) -> str | None:
    """Returns what is wrong with settings that were taken, by the type of each and what is documented."""
    for field in dataclasses.fields(Config):
        value, limits = values[field.name], DOCUMENTED.get(field.name)
        if type(value) is not field.type and not (field.type is float and type(value) is int):
            return f"{field.name}={value!r} is no {field.type.__name__}"
        if limits and field.type is str and value not in limits:
            return f"{field.name}={value!r} is none of {limits}"
        if limits and field.type is not str and not limits[0] <= value <= limits[1]:
            return f"{field.name}={value!r} is not within {limits}"
    return None


def judge(attempt: Callable, wrong_with: Callable) -> str:
    """Returns one of `RIGHT`, or what is wrong.

    Args:
        attempt: gives the package something; an `InputError` refuses it.
        wrong_with: what `attempt` returned to what is wrong with it, or None; or `ANOTHER`.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            result = attempt()
    except InputError as error:
        return one_line(str(error)) or "refused"
    except Exception:
        return traceback_of()
    wrong = wrong_with(result)
    return wrong if wrong == ANOTHER else f"accepted silently: {wrong}" if wrong else "accepted"


def traceback_of() -> str:
    """Returns the end of the traceback of what is being handled, in one line."""
    return "traceback: " + " | ".join(traceback.format_exc().strip().splitlines()[-3:])[-600:]


def one_line(message: str) -> str | None:
    """Returns what is wrong with the message of a refusal, or None."""
    if len(message.splitlines()) != 1:
        return f"not one line: {message[:200]!r}"
    return None if "expected" in message else f"does not say what is expected: {message[:200]}"


def state_of(folder: pathlib.Path) -> dict[str, tuple]:
    """Returns what tells whether a file below a folder was written since, by its path; evaluation/ and locks are left out."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        status = path.lstat()
        if "evaluation" not in name and path.name != ".lock":
            found[name] = (status.st_mode, status.st_size, status.st_mtime_ns if path.is_file() else 0)
    return found


def write_pictures(folder: pathlib.Path) -> None:
    """Writes an image folder of three classes, two PNG files in each and in each split."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in "abc":
            (folder / split / name).mkdir(parents=True)
            for number in range(2):
                png = tf.io.encode_png(rng.integers(0, 256, (8, 9, 1)).astype(np.uint8))
                (folder / split / name / f"{number}.png").write_bytes(png.numpy())


def write_tfds(folder: pathlib.Path) -> None:
    """Lays out a TFDS data set "fuzzed" of small images."""
    tfds.disable_progress_bar()
    rng = np.random.default_rng(0)
    features = {"image": tfds.features.Image(shape=(8, 9, 1)), "label": tfds.features.ClassLabel(num_classes=3)}
    tfds.dataset_builders.store_as_tfds_dataset(
        name="fuzzed",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={
            split: [
                (k, {"image": rng.integers(0, 256, (8, 9, 1)).astype(np.uint8), "label": k % 3}) for k in range(count)
            ]
            for split, count in (("train", 12), ("test", 9))  # other numbers, so that neither can stand for the other
        },
        data_dir=folder,
        disable_shuffling=True,
    )


def split_wrong(found: datasets.ImageDataset, expected: datasets.ImageDataset) -> str | None:
    """Returns which split of a data set is not as expected, or None."""
    for name in ("train", "validation", "test"):
        one, other = getattr(found, name), getattr(expected, name)
        if not np.array_equal(one.images, other.images) or not np.array_equal(one.labels, other.labels):
            return f"another {name} split"
    return None if found.class_names == expected.class_names else "other class names"


class Fuzz:
    """Everything as it is when nothing is damaged, and for each kind of damage a strategy and a judge of its examples.

    Args:
        whole: an empty folder for what stays whole.
        place: an empty folder for what is damaged; commands are run in it.
    """

    def __init__(self, whole: pathlib.Path, place: pathlib.Path):
        self.whole = whole
        self.place = place
        self.digits = datasets.load("digits")
        self.settings = make_config(**TINY)
        self.asked = make_config(
            **TINY | {"stage1_epochs": 1, "stage2_epochs": 1}, black_box="small", queries_per_epoch=40
        )
        self.defended = dataclasses.replace(self.settings, classifier="resnet20", defense="ensemble")
        # Of what has no --classifier_epochs: forty take too long here.
        small = architectures.ARCHITECTURES["small"]
        recipe = dataclasses.replace(small.recipe, epochs=1)
        architectures.ARCHITECTURES["small"] = dataclasses.replace(small, recipe=recipe)
        with contextlib.redirect_stdout(io.StringIO()):
            self.measured = trained_on(self.settings, whole / "run")
            advgan.train_advgan(self.settings, whole / "run", target_classes="3", epochs=1)
            self.report = evaluated(whole / "run")
            # Interrupted before its last epoch; what would have come of it.
            with interrupted():
                training.train_and_export(self.asked, whole / "asked")
            shutil.copytree(whole / "asked", place / "asked")
            self.gone_on_with = trained_on(self.asked, place / "asked")
            self.beside = self.classifiers_beside(whole / "beside")
        for unneeded in (
            "run/logs/*",
            "run/evaluation",
            "run/checkpoints/classifier",
            "run/advgan/3/[cl]*",
            "*/*/checkpoints",
            "*/*/*/checkpoints",
        ):
            for path in whole.glob(unneeded):
                damage.remove(path)
        self.classifier = training.existing_classifier(self.settings, self.digits, Workdir(whole / "run"))
        self.exported = build_attacks.ExportedGenerator(Workdir(whole / "run"), self.settings, (8, 8, 1))
        self.images = self.digits.test.as_float()[:8]
        self.logits = np.asarray(self.classifier(self.images))
        model = keras.models.load_model(whole / "run" / "classifier.keras", compile=False)
        (whole / "own").mkdir()
        model.save(whole / "own" / "classifier.keras")
        model.export(whole / "own" / "saved", verbose=False)
        other = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
        other.save(whole / "own" / "other.keras")
        (whole / "named").mkdir()
        (whole / "named" / "names.txt").write_text("\n".join(f"digit {k}" for k in range(10)))
        (whole / "named" / "layers.py").write_text(LAYERS)
        exec(LAYERS, namespace := {"__name__": "layers"})
        doubled = keras.Sequential(
            [keras.Input((8, 8, 1)), namespace["Doubling"](), *other.layers[:-1], keras.layers.Dense(10)]
        )
        doubled.save(whole / "own" / "doubled.keras")
        self.doubled = np.asarray(doubled(self.images))
        write_pictures(whole / "pictures")
        with contextlib.redirect_stdout(io.StringIO()):
            write_tfds(whole / "tfds")
        self.tfds = datasets.load("fuzzed", str(whole / "tfds"))
        shutil.copytree(whole / "run", place / "run")
        (place / "folder").mkdir()
        (place / "folder" / "file.txt").write_text("text\n")
        (place / "loop").symlink_to("loop")
        self.kinds = {
            "config.json": self.configs,
            "flags of train.py": self.train_flags,
            "flags of evaluate.py": self.evaluate_flags,
            "image folder": self.image_folders,
            "TFDS folder": self.tfds_folders,
            "classifier of one's own": self.own_classifiers,
            "config.json, evaluated": self.evaluated_configs,
            "work folder, evaluated": self.evaluated_folders,
            "work folder, trained on": self.continued_folders,
            "interrupted work folder, gone on with": self.interrupted_folders,
            "classifiers beside the run": self.folders_beside,
            "files of names and layers": self.named_files,
        }

    # --- settings

    # Each of the methods that follow returns a strategy, and what judges an example of it as `judge` does.

    def configs(self):
        names = [field.name for field in dataclasses.fields(Config)]
        folder = Workdir(self.place / "config")
        folder.path.mkdir()
        settings, defaults = dataclasses.asdict(self.settings), before_they_existed()

        def given():
            return defaults | {
                name: value for name, value in json.loads(folder.config.read_bytes()).items() if name in names
            }

        def read_wrong(config):
            values = given()
            differs = [name for name in names if values[name] != getattr(config, name)]
            return f"another {differs[0]}" if differs else settings_wrong(values)

        def continued_wrong(same):
            values = given()
            differs = [name for name in names if json.dumps(values[name]) != json.dumps(settings[name])]
            return f"the same run although {differs[0]} is {values[differs[0]]!r}" if differs else None

        def check(text):
            folder.config.write_bytes(text)
            outcome = judge(lambda: workdir.config_of(folder), read_wrong)
            continued = judge(lambda: folder.check(settings, defaults, {"dataset": "0"}), continued_wrong)
            if folder.config.read_bytes() != text or len(list(folder.path.iterdir())) != 1:
                return "the folder was changed"
            return outcome if continued in RIGHT else continued

        whole = json.loads((self.whole / "run" / "config.json").read_text())
        return damage.configs(whole, names), check

    def commands(self, command, names, others, wrong_with, stubs):
        """As the other methods, of a command.

        Args:
            command: of `cli`.
            names, others: as in `damage.flags`.
            wrong_with: from the arguments of `Accepted` and the flags to what is wrong, or None.
            stubs: `(object, name of its attribute, stand-in)`, one of which accepts.
        """
        before = state_of(self.place)

        def check(arguments):
            said, taken, status, raised = io.StringIO(), None, 0, None
            try:
                with contextlib.ExitStack() as patched:
                    for stub in stubs:
                        patched.enter_context(mock.patch.object(*stub))
                    patched.enter_context(contextlib.redirect_stderr(said))
                    patched.enter_context(contextlib.redirect_stdout(io.StringIO()))
                    status = run_in_process(command, *arguments)
            except Accepted as accepted:
                taken = accepted.args
            except Exception:
                raised = traceback_of()
            after = state_of(self.place)
            changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
            for name in reversed(changed):
                if name not in before:  # what the run began
                    damage.remove(self.place / name)
            if raised:
                return raised
            if any(name in before for name in changed):
                return f"changed {changed}"
            if taken is not None:
                wrong = wrong_with(taken, arguments)
                return f"accepted silently: {wrong}" if wrong else "accepted"
            if status != 2 or not said.getvalue().startswith("error: "):
                return f"status {status}: {said.getvalue()[:200]!r}"
            return one_line(said.getvalue()[:-1]) or (f"wrote {changed}" if changed else "refused")

        return damage.flags(names, others), check

    def train_flags(self):
        fields = {field.name: field.type for field in dataclasses.fields(Config)}
        parsed = {**fields, "export_run": bool}

        def wrong_with(taken, arguments):
            given = {}
            for argument in arguments:
                name, equals, text = argument.lstrip("-").partition("=")
                if name in parsed:
                    given[name] = PARSE[parsed[name]](text) if equals else True
                elif name.removeprefix("no") in parsed:
                    given[name.removeprefix("no")] = False
            expected = self.settings if given.pop("export_run", False) else make_config(**given)
            return "other settings than given" if taken[0] != expected else settings_wrong(dataclasses.asdict(taken[0]))

        others = {
            "workdir": ["run", "folder", "folder/file.txt/x", "new"],
            "classifier": ["small", "A", "run/classifier.keras"],
            "black_box": ["small", "B"],
            "attack": ["untargeted"],
            "switch": ["fixed"],
            "defense": ["pgd", "fgsm", "rl"],
            "dataset": ["digits", "folder", "cifar11"],
            "input_range": ["0,255", "255,0", "0,inf"],
            "method": ["advgan"],
            "target_class": ["all", "3", "12", "3,4"],
            "strategy": ["mirrored", "multiworker"],
            "class_names": ["folder/file.txt"],
            "custom_objects": ["folder/file.txt"],
        }
        of_the_run = ["workdir", "data_dir", "method", "target_class", "advgan_epochs", "strategy", "export_classifier"]
        stubs = [
            (preparation, "load", self.load),
            (training.classifier_training, "trained_classifier", accept),
            (training.classifier_training, "hardened_classifier", accept),
            (training, "train_generator", accept),
            (training, "fit", lambda model, config, *others: accept(config)),
            (training, "export", lambda generator, config, *others: accept(config)),
        ]
        return self.commands(cli.train, [*fields, *of_the_run, "export_run"], others, wrong_with, stubs)

    def evaluate_flags(self):
        def wrong_with(taken, arguments):
            given = dict(argument.lstrip("-").split("=", 1) for argument in arguments if "=" in argument)
            if PARSE[int](given.get("num_examples", "0")) < 0:
                return "a negative number of examples"
            unknown = taken[3].keys() - set(build_attacks.ATTACKS)
            return f"attacks {unknown}" if unknown or not taken[3] else None

        others = {
            "workdir": ["run", "run,run", "folder", "loop"],
            "attacks": ["aigan", "fgsm,pgd", "advgan", "cw,cw", "aigan,"],
            "output": ["folder", "folder/file.txt", "new"],
            "transfer_to": ["run", "small", "run/classifier.keras", "A"],
            "save_images": ["folder", "new", "folder/file.txt"],
            "num_examples": ["0", "1", "300", "301"],
        }
        names = [*others, "data_dir"]
        stubs = [
            (preparation, "load", self.load),
            (preparation, "existing_classifier", lambda *run: self.classifier),
            (preparation, "check_accuracy", lambda *run: 1.0),
            (compare, "trained_classifier", lambda *run: self.classifier),
            (build_attacks, "ExportedGenerator", lambda *run: self.exported),
            (compare, "compare", accept),
        ]
        strategy, check = self.commands(cli.evaluate, names, others, wrong_with, stubs)
        return strategy.map(lambda arguments: ["--workdir=run", *arguments]), check

    def load(self, name, data_dir=None, image_size=None):
        """`data.load`, which reads the digits once."""
        return self.digits if (name, image_size) == ("digits", None) else datasets.load(name, data_dir, image_size)

    # --- files

    def folders(self, name, patterns, use, wrong_with):
        """As the other methods, of a folder.

        Args:
            name: of the folder in `whole`.
            patterns: as in `damage.broken_folders`.
            use: what is done with the damaged folder; an `InputError` refuses it.
            wrong_with: from what `use` returned and the folder to what is wrong, or None.
        """
        copy = self.place / f"damaged {name}"

        def check(broken):
            shutil.copytree(self.whole / name, copy, copy_function=os.link)
            try:
                broken[1](copy)
                before = state_of(copy)
                outcome = judge(lambda: use(copy), lambda result: wrong_with(result, copy))
                after = state_of(copy)
                changed = sorted(name for name, state in before.items() if after.get(name) != state)
                return f"changed {changed}" if changed and outcome == "refused" else outcome
            finally:
                damage.remove(copy)

        return damage.broken_folders(self.whole / name, patterns), check

    def image_folders(self):
        def wrong_with(found, folder):
            files = [path for split in ("train", "test") for path in (folder / split).glob("*/*.png")]
            expected = sorted((np.asarray(Image.open(path)).tobytes(), path.parent.name) for path in files)
            splits = (found.train, found.validation, found.test)
            pairs = [pair for split in splits for pair in zip(split.images, split.labels, strict=True)]
            taken = sorted((image.tobytes(), found.class_names[label]) for image, label in pairs)
            return None if taken == expected else "other images than another decoder's"

        return self.folders(
            "pictures", ["*", "*/*", "*/*/*.png", "*/*/*.png"], lambda folder: datasets.load(str(folder)), wrong_with
        )

    def tfds_folders(self):
        return self.folders(
            "tfds", ["fuzzed", "*/*", "*/*/*", "*/*/*"], lambda folder: datasets.load("fuzzed", str(folder)),
            lambda found, folder: split_wrong(found, self.tfds),
        )  # fmt: skip

    def own_classifiers(self):
        names = "classifier.keras", "saved"
        graph = (self.whole / "own" / "saved" / "saved_model.pb").read_bytes()

        def use(folder):
            return [
                np.asarray(loading.load_classifier(str(folder / name), self.images, 10)(self.images)) for name in names
            ]

        def wrong_with(answers, folder):
            other = [
                name
                for name, logits in zip(names, answers, strict=True)
                if not np.allclose(logits, self.logits, atol=1e-4)
            ]
            # The graph of a SavedModel has no checksum that TensorFlow looks at: that it still means a classifier is all
            # that can be asked, and train.py tells its accuracy before anything else.
            if other == ["saved"] and (folder / "saved" / "saved_model.pb").read_bytes() != graph:
                return ANOTHER
            return f"other answers of {other[0]}" if other else None

        return self.folders("own", ["*.keras", "saved", "saved/*", "saved/*/*"], use, wrong_with)

    def evaluated_folders(self):
        return self.folders("run", EVALUATED, evaluated, self.report_wrong)

    def evaluated_configs(self):
        whole = json.loads((self.whole / "run" / "config.json").read_text())
        copy = self.place / "evaluated"
        shutil.copytree(self.whole / "run", copy)
        before = state_of(copy)
        before.pop("config.json")

        def wrong_with(report):
            rates = [
                row[name]
                for row in report["attacks"].values()
                for name in ("success_rate", "clean_accuracy", "mean_l2")
            ]
            return None if np.isfinite(rates).all() and min(rates) >= 0 else f"rates of {rates}"

        def check(text):
            (copy / "config.json").write_bytes(text)
            outcome = judge(lambda: evaluated(copy), wrong_with)
            after = state_of(copy)
            after.pop("config.json")
            return outcome if after == before else "the folder was changed"

        return damage.configs(whole, [field.name for field in dataclasses.fields(Config)]), check

    def continued_folders(self):
        return self.folders(
            "run", [*READ, *EXPORTED, *WRITTEN], lambda folder: trained_on(self.settings, folder),
            lambda report, folder: first_difference(report, self.measured),
        )  # fmt: skip

    def interrupted_folders(self):
        return self.folders(
            "asked", [*READ, *WRITTEN, "surrogate", "surrogate/*"], lambda folder: trained_on(self.asked, folder),
            lambda report, folder: first_difference(report, self.gone_on_with),
        )  # fmt: skip

    def classifiers_beside(self, folder):
        """Returns the answers of a black box, and the logits of its copy and of a defence's static classifier."""
        run, few = Workdir(folder), self.digits.validation.as_float()[:8]
        copy, answered = black_box.train_surrogate(self.asked, self.digits, run, BlackBox(known_answers))
        (static,) = classifier_training.static_classifiers(self.defended, self.digits, run)
        return {
            "train": answered.train.labels, "validation": answered.validation.labels,
            "copy": np.asarray(copy(few)), "static": np.asarray(static(few)),
        }  # fmt: skip

    def folders_beside(self):
        def wrong_with(found, folder):
            differs = [name for name in found if not np.allclose(found[name], self.beside[name], atol=1e-4)]
            for name, path in (
                ("copy", "surrogate"),
                ("static", "ensemble/small"),
            ):  # what was removed is trained again
                files = [root / path / "classifier.keras" for root in (folder, self.whole / "beside")]
                if name in differs and files[0].read_bytes() != files[1].read_bytes():
                    differs.remove(name)
            return f"another {differs[0]}" if differs else None

        patterns = ["*", "surrogate/*", "surrogate/answers.npz", "ensemble/*", "ensemble/small/*"]
        return self.folders("beside", patterns, self.classifiers_beside, wrong_with)

    def named_files(self):
        def use(folder):
            keras.saving.get_custom_objects().clear()
            config = dataclasses.replace(self.settings, class_names=str(folder / "names.txt"))
            with mock.patch.object(preparation, "load", self.load):
                names = datasets.load_dataset(config, None).class_names
            model, layers = str(self.whole / "own" / "doubled.keras"), str(folder / "layers.py")
            return names, np.asarray(
                loading.load_classifier(model, self.images, 10, custom_objects=layers)(self.images)
            )

        def wrong_with(found, folder):
            names, logits = found
            lines = (folder / "names.txt").read_bytes().decode("utf-8-sig").splitlines()
            if list(names) != [line.strip() for line in lines if line.strip()] or len(set(names)) != 10:
                return f"names {names}"
            if not all(name.isprintable() for name in names):
                return f"names {names} that cannot be printed"
            if np.allclose(logits, self.doubled, atol=1e-4):
                return None
            return "other logits" if (folder / "layers.py").read_text() == LAYERS else ANOTHER  # other code

        return self.folders("named", ["*"], use, wrong_with)

    def report_wrong(self, report, folder):
        retrained = digest_of(folder / "transfer") != digest_of(self.whole / "run" / "transfer")
        expected = self.report | ({"transfer": report["transfer"]} if retrained else {})
        differs = [name for name in expected if report.get(name) != expected[name]]
        if differs == ["generator_training_seconds"]:  # which are what they are in the file
            rows = read_csv(folder / "metrics.csv")
            differs = [] if report[differs[0]] == sum(float(row["seconds"]) for row in rows) else differs
        return f"another {differs[0]}" if differs else None


def evaluated(folder: pathlib.Path) -> dict:
    """Returns of a work folder's report what does not depend on the clock."""
    attacks = ["aigan", "aigan_stage1", "advgan"]
    report = compare.evaluate_workdir(folder, num_examples=20, attacks=attacks, transfer_to=["small"])
    for row in (*report["attacks"].values(), *report["transfer"].values()):
        del row["milliseconds_per_image"]
    return report


def trained_on(config: Config, folder: pathlib.Path) -> dict:
    """Returns what train.py measures, but for what depends on the clock."""
    report = training.train_and_export(config, folder)
    del report["milliseconds_per_image"]
    return report


def first_difference(report: dict, expected: dict) -> str | None:
    """Returns what is not as expected in a report, or None."""
    return next((f"another {name}" for name in expected if report[name] != expected[name]), None)


@contextlib.contextmanager
def interrupted():
    """Interrupts a generator's training before its last epoch."""
    original = callbacks.MetricsHistory.on_epoch_begin

    def on_epoch_begin(self, epoch, logs=None):
        if hasattr(self.model, "generator") and epoch + 1 == self.params["epochs"]:
            raise KeyboardInterrupt
        original(self, epoch, logs)

    with (
        contextlib.suppress(KeyboardInterrupt),
        mock.patch.object(callbacks.MetricsHistory, "on_epoch_begin", on_epoch_begin),
    ):
        yield


def known_answers(images: tf.Tensor) -> tf.Tensor:
    """A black box that need not be trained: each of ten classes is told by one row or column's brightness."""
    return tf.concat([tf.reduce_mean(images, axis=[1, 3]), tf.reduce_mean(images, axis=[2, 3])[:, :2]], axis=1)


def run(check: Callable, strategy, examples: int, seed: int) -> tuple[collections.Counter, list[str]]:
    """Judges examples of a strategy; returns how many had which outcome, and those that went wrong."""
    outcomes, failures = collections.Counter(), []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def one(example):
        outcome = check(example)
        outcomes[outcome if outcome in RIGHT else "failed"] += 1
        if outcome not in RIGHT:
            shown = example[0] if isinstance(example, tuple) else example
            failures.append(f"{str(shown)[:300]}: {outcome}")

    one()
    return outcomes, failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=SHARES, help="only this one, with all the examples")
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    output = arguments.output and arguments.output.absolute()
    shares = {arguments.kind: 1.0} if arguments.kind else SHARES
    tf.get_logger().setLevel("ERROR")  # that functions are traced again and again is no news here
    began = time.perf_counter()
    counts, failures = {}, {}
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        fuzz = Fuzz(pathlib.Path(whole), pathlib.Path(place))
        untouched = digest_of(fuzz.whole)
        for kind, share in shares.items():
            strategy, check = fuzz.kinds[kind]()
            outcomes, failed = run(check, strategy, max(round(share * arguments.examples), 1), arguments.seed)
            counts[kind] = dict(outcomes)
            failures |= {kind: failed} if failed else {}
            print(f"{kind}: {counts[kind]}, {time.perf_counter() - began:.0f} s", flush=True)
            for line in failed[:20]:
                print(f"  {line}", flush=True)
        if digest_of(fuzz.whole) != untouched:
            failures["whole"] = ["a file that was not given was changed"]
    result = {
        "n": sum(sum(outcomes.values()) for outcomes in counts.values()),
        "seed": arguments.seed,
        "outcomes": counts,
        "failures": failures,
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "versions": {name: metadata.version(name) for name in ("hypothesis", "tensorflow", "keras", "numpy")},
    }
    if output:
        write_json(output, result)
    if failures:
        sys.exit(f"{sum(map(len, failures.values()))} of {result['n']} examples went wrong")


if __name__ == "__main__":
    main()
