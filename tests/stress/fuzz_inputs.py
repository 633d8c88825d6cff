"""Gives the package thousands of wrong configs, command lines and files and judges its answer to each.

    python tests/stress/fuzz_inputs.py --examples=10000 --output=docs/results/fuzz.json

`damage.py` makes the inputs. An input must be refused in one line of the form "X: expected Y; Z", or accepted as exactly
what it is: settings within the bounds that they declare, and files that give the results of undamaged ones (`judge.py`). A
refused command changes nothing. Exits with 1 after any other answer.
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
from collections.abc import Callable
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import aigan_tf  # noqa: F401 isort: skip (before TensorFlow, which reads its settings on import)
import damage
import hypothesis
import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from judge import ANOTHER, RIGHT, first_difference, given_flags, judge, parsed, run_command, settings_wrong, state_of
from PIL import Image

from aigan_tf import cli
from aigan_tf.classifiers import architectures
from aigan_tf.classifiers.loading import load_classifier
from aigan_tf.config import Config, kind_of, make_config
from aigan_tf.data import datasets
from aigan_tf.engine.callbacks import MetricsHistory
from aigan_tf.evaluation import compare
from aigan_tf.evaluation.attacks import ATTACKS
from aigan_tf.files import write_json
from aigan_tf.provenance import package_versions
from aigan_tf.training import run
from aigan_tf.training.advgan import train_advgan
from aigan_tf.workdir import Workdir, config_of, digest_of

SETTINGS = [field.name for field in dataclasses.fields(Config)]
TINY = make_config(
    dataset="digits", classifier_epochs=2, steps_per_epoch=3, stage1_epochs=2, stage2_epochs=2, switch_success=1.0,
    batch_size=32, attack_steps=2, generator_width=4, generator_blocks=1,
)  # fmt: skip
BLACK_BOX = dataclasses.replace(TINY, stage1_epochs=1, stage2_epochs=1, black_box="small", queries_per_epoch=40)
# Entries of a run's folder that are read again.
READ = ["config.json", "digests.json", "classifier.keras", "*.weights.h5", "metrics.csv"]
EXPORTED = ["generator", "*/1/*", "*/1/variables/*", "advgan"]
EVALUATED = [*READ, *EXPORTED, "advgan/3", "advgan/3/*", "transfer", "transfer/*", "transfer/small/*"]
CONTINUED = [*READ, "logs", "samples", "samples/*", "checkpoints", "checkpoints/*", "checkpoints/aigan/*"]
LAYERS = """
import keras

@keras.saving.register_keras_serializable("fuzzed")
class Doubling(keras.layers.Layer):
    def call(self, inputs):
        return 2.0 * inputs
"""


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of input.

    Args:
        share: of all examples; those that load models take a hundred times as long as others.
        folder: copied for each example.
        examples: strategy of `(description, function that damages the copy)`, or of a command's arguments.
        use: called with the copy, and with the arguments of a command; an `InputError` refuses it.
        wrong_with: called with what `use` returned and with the arguments of `use`; returns what is wrong, or None.
    """

    share: float
    folder: pathlib.Path
    examples: hypothesis.strategies.SearchStrategy
    use: Callable
    wrong_with: Callable

    def check(self, example: tuple | list[str]) -> str:
        """Returns one of `RIGHT`, or what is wrong."""
        copy, is_command = pathlib.Path("copy").absolute(), isinstance(example, list)
        given = (copy, example) if is_command else (copy,)
        shutil.copytree(self.folder, copy, symlinks=True, copy_function=link)
        try:
            if not is_command:
                example[1](copy)
            before = state_of(copy)
            outcome = judge(lambda: self.use(*given), lambda result: self.wrong_with(result, *given))
            after = state_of(copy)
            changed = [name for name, state in before.items() if after.get(name) != state]
            new = list(after.keys() - before.keys())
            if outcome == "refused" and (changed or (new and is_command)):  # training may be refused late
                return f"refused, but changed {changed + new}"
            return f"changed {changed}" if changed and is_command and outcome in RIGHT else outcome
        finally:
            damage.remove(copy)


def link(source, target):
    os.link(source, target, follow_symlinks=False)


# --- The undamaged inputs


def evaluated(folder: pathlib.Path) -> dict:
    """Returns of a run's evaluation what depends neither on the clock nor on metrics.csv, which has no digest."""
    attacks = ["aigan", "aigan_stage1", "advgan"]
    report = compare.evaluate_workdir(folder, num_examples=20, attacks=attacks, transfer_to=["small"])
    for row in (*report["attacks"].values(), *report["transfer"].values()):
        del row["milliseconds_per_image"]
    return {name: value for name, value in report.items() if name in ("attacks", "transfer", "warnings", "epsilon")}


def trained(config: Config, folder: pathlib.Path) -> dict:
    """Returns what train.py measures without what depends on the clock."""
    report = run.train_and_export(config, folder)
    del report["milliseconds_per_image"]
    return report


@contextlib.contextmanager
def interrupted_in_last_epoch():
    """Interrupts the generator's training when its last epoch begins."""
    begin = MetricsHistory.on_epoch_begin

    def on_epoch_begin(self, epoch, logs=None):
        if hasattr(self.model, "generator") and epoch + 1 == self.params["epochs"]:
            raise KeyboardInterrupt
        begin(self, epoch, logs)

    with contextlib.suppress(KeyboardInterrupt), mock.patch.object(MetricsHistory, "on_epoch_begin", on_epoch_begin):
        yield


def write_image_folder(folder: pathlib.Path) -> None:
    """Writes PNG files of three classes, two in each class of each split."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in "abc":
            (folder / split / name).mkdir(parents=True)
            for number in range(2):
                pixels = rng.integers(0, 256, (8, 9), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")


def write_tfds(folder: pathlib.Path) -> None:
    """Writes a TFDS data set "fuzzed" of small images."""
    tfds.disable_progress_bar()
    rng = np.random.default_rng(0)
    features = {"image": tfds.features.Image(shape=(8, 9, 1)), "label": tfds.features.ClassLabel(num_classes=3)}

    def examples(count):
        return [(k, {"image": rng.integers(0, 256, (8, 9, 1), np.uint8), "label": k % 3}) for k in range(count)]

    tfds.dataset_builders.store_as_tfds_dataset(
        name="fuzzed",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": examples(12), "test": examples(9)},  # of other sizes: neither can replace the other
        data_dir=folder,
        disable_shuffling=True,
    )


def write_own_classifiers(own: pathlib.Path, named: pathlib.Path, trained_classifier: pathlib.Path) -> None:
    """Writes classifiers of a user's own, and the files of class names and of custom layers.

    Args:
        own: folder for a .keras file and a SavedModel of the same classifier.
        named: folder for class names, custom layers, and a classifier with them.
        trained_classifier: the .keras file that the classifiers are made of.
    """
    model = keras.models.load_model(trained_classifier, compile=False)
    own.mkdir()
    model.save(own / "classifier.keras")
    model.export(own / "saved", verbose=False)
    named.mkdir()
    (named / "names.txt").write_text("\n".join(f"digit {k}" for k in range(10)))
    (named / "layers.py").write_text(LAYERS)
    exec(LAYERS, namespace := {"__name__": "layers"})
    keras.Sequential([keras.Input((8, 8, 1)), namespace["Doubling"](), model]).save(named / "doubled.keras")


class Fuzz:
    """The undamaged inputs, and the kinds of damaged ones with their judges.

    Args:
        whole: an empty folder for the undamaged inputs.
    """

    def __init__(self, whole: pathlib.Path):
        self.whole = whole
        # The surrogate and the transfer classifier cannot be given fewer epochs than the forty of their recipe.
        small = architectures.ARCHITECTURES["small"]
        recipe = dataclasses.replace(small.recipe, epochs=1)
        architectures.ARCHITECTURES["small"] = dataclasses.replace(small, recipe=recipe)
        with contextlib.redirect_stdout(io.StringIO()):
            self.measured = trained(TINY, whole / "run")
            train_advgan(whole / "run", ["3"], epochs=1)
            self.report = evaluated(whole / "run")
            with interrupted_in_last_epoch():
                run.train_and_export(BLACK_BOX, whole / "interrupted")
            shutil.copytree(whole / "interrupted", whole / "continued")
            self.continued = trained(BLACK_BOX, whole / "continued")
            write_tfds(whole / "tfds")
        write_image_folder(whole / "images")
        write_own_classifiers(whole / "own", whole / "named", whole / "run" / "classifier.keras")
        self.saved_settings = json.loads((whole / "run" / "config.json").read_text())
        (whole / "config").mkdir()
        shutil.copy(whole / "run" / "config.json", whole / "config")
        commands = whole / "commands"
        shutil.copytree(whole / "run", commands / "run")
        (commands / "folder").mkdir()
        (commands / "folder" / "file.txt").write_text("text\n")
        (commands / "loop").symlink_to("loop")
        self.images = datasets.load("digits").test.as_float()[:8]

    def kinds(self) -> dict[str, Kind]:
        return {
            "config.json": self.config(0.25),
            "config.json, continued": self.continued_config(0.136),
            "flags of train": self.train_command(0.30),
            "flags of evaluate": self.evaluate_command(0.10),
            "arguments of advgan": self.advgan_command(0.04),
            "arguments of export": self.export_command(0.02),
            "image folder": self.image_folder(0.07),
            "TFDS folder": self.tfds_folder(0.02),
            "own classifier": self.own_classifier(0.015),
            "names and layers": self.named_files(0.03),
            "config.json, evaluated": self.evaluated_config(0.005),
            "run, evaluated": self.evaluated_run(0.008),
            "run, continued": self.continued_run(0.004, "run", TINY, [*CONTINUED, *EXPORTED], self.measured),
            "interrupted run, continued": self.continued_run(
                0.004, "interrupted", BLACK_BOX, [*CONTINUED, "surrogate", "surrogate/*"], self.continued
            ),
        }

    # --- Settings and commands

    def damaged_configs(self):
        def damaged(data):
            return data, lambda copy: damage.replace(copy / "config.json", lambda path: path.write_bytes(data))

        return damage.configs(self.saved_settings, SETTINGS).map(damaged)

    def config(self, share):
        def wrong_with(config, folder):
            saved = json.loads((folder / "config.json").read_bytes())
            read = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
            return first_difference(read, dataclasses.asdict(config)) or settings_wrong(config)

        folder = self.whole / "config"
        return Kind(share, folder, self.damaged_configs(), lambda folder: config_of(Workdir(folder)), wrong_with)

    def continued_config(self, share):
        settings = dataclasses.asdict(TINY)

        def wrong_with(continued, folder):
            saved = json.loads((folder / "config.json").read_bytes())
            differs = [name for name in SETTINGS if json.dumps(saved.get(name)) != json.dumps(settings[name])]
            return f"the same run with another {differs[0]}" if differs or not continued else None

        def use(folder):
            return Workdir(folder).check(settings, {"dataset": "0"})

        return Kind(share, self.whole / "config", self.damaged_configs(), use, wrong_with)

    def evaluated_config(self, share):
        def wrong_with(report, folder):
            names = ("success_rate", "clean_accuracy", "mean_l2")
            rates = [row[name] for row in report["attacks"].values() for name in names]
            return None if np.isfinite(rates).all() and min(rates) >= 0 else f"rates of {rates}"

        return Kind(share, self.whole / "run", self.damaged_configs(), evaluated, wrong_with)

    def command(self, share, command, stubs, examples, wrong_with):
        """The kind of a command's arguments, run in a folder with a run, a folder, and a link to itself.

        Args:
            share, examples: as in `Kind`.
            command: of `cli`.
            stubs: as in `run_command`.
            wrong_with: called with the arguments of the stub and of the command; returns what is wrong, or None.
        """

        def use(folder, arguments):
            with contextlib.chdir(folder):
                return run_command(command, arguments, stubs)

        def judged(taken, folder, arguments):
            with contextlib.chdir(folder):
                return wrong_with(taken, arguments)

        return Kind(share, self.whole / "commands", examples, use, judged)

    def train_command(self, share):
        kinds = {field.name: kind_of(field) for field in dataclasses.fields(Config)}
        others = {"workdir": str, "data_dir": str, "strategy": str, "export_classifier": bool}
        likely = {
            "workdir": ["run", "folder", "folder/file.txt/x", "new"],
            "classifier": ["small", "A", "run/classifier.keras"],
            "black_box": ["small", "B"],
            "attack": ["untargeted"],
            "defense": ["pgd", "fgsm", "rl"],
            "dataset": ["digits", "folder", "cifar11"],
            "image_size": ["8,8", "16,16", "0,8", "8"],
            "input_range": ["0,255", "255,0", "0,inf"],
            "strategy": ["mirrored", "multiworker"],
            "class_names": ["folder/file.txt"],
            "custom_objects": ["folder/file.txt"],
        }

        def wrong_with(taken, arguments):
            _, given = given_flags(arguments, kinds | others)
            values = {name: parsed(text, kinds[name]) for name, text in given.items() if name in kinds}
            return "other settings than given" if taken[0] != make_config(**values) else settings_wrong(taken[0])

        stubs = [(run, name) for name in ("trained_classifier", "hardened_classifier", "train_generator")]
        examples = damage.command_lines([*kinds, *others], likely)
        return self.command(share, cli.train, stubs, examples, wrong_with)

    def evaluate_command(self, share):
        likely = {
            "workdir": ["run", "run,run", "folder", "loop"],
            "attacks": ["aigan", "fgsm,pgd", "advgan", "cw,cw", "aigan,"],
            "num_examples": ["0", "1", "300", "301"],
            "output": ["folder", "folder/file.txt", "new"],
            "transfer_to": ["run", "run/classifier.keras", "A"],
            "save_images": ["folder", "new", "folder/file.txt"],
        }
        names = [*likely, "data_dir", "custom_objects"]

        def wrong_with(taken, arguments):
            _, given = given_flags(arguments, dict.fromkeys(names, str))
            if parsed(given.get("num_examples", "0"), int) < 0:
                return "a negative number of images"
            attacks = [name.strip() for name in given.get("attacks", "aigan").split(",")]
            return None if {*attacks, ""} <= {*ATTACKS, ""} else f"attacks {attacks}"

        examples = damage.command_lines(names, likely).map(lambda arguments: ["--workdir=run", *arguments])
        return self.command(share, cli.evaluate, [(compare, "compare")], examples, wrong_with)

    def advgan_command(self, share):
        names = ["epochs", "data_dir", "strategy", "custom_objects"]

        def wrong_with(taken, arguments):
            (_, *classes), given = given_flags(arguments, dict.fromkeys(names, str))
            if not all(name.isdecimal() and int(name) < 10 for name in classes):
                return f"classes {classes}"
            if parsed(given.get("epochs", "1"), int) < 1:
                return "fewer epochs than one"
            return "other settings than the run's" if taken[0] != TINY else None

        examples = damage.command_lines(names, {"strategy": ["mirrored"]}, ["run", "run", "run", "folder", "loop"])
        return self.command(share, cli.advgan, [(run, "trained_classifier")], examples, wrong_with)

    def export_command(self, share):
        names = ["export_classifier", "data_dir", "custom_objects"]

        def wrong_with(taken, arguments):
            return "other settings than the run's" if taken[1] != TINY else None

        examples = damage.command_lines(names, {}, ["run", "run", "run", "folder", "loop"])
        return self.command(share, cli.export, [(run, "export")], examples, wrong_with)

    # --- Files

    def files(self, share, name, patterns, use, wrong_with):
        """The kind of a folder in `whole` with a damaged entry; `patterns` as in `damage.damaged_folders`."""
        folder = self.whole / name
        return Kind(share, folder, damage.damaged_folders(folder, patterns), use, wrong_with)

    def image_folder(self, share):
        def wrong_with(found, folder):
            files = [path for split in ("train", "test") for path in (folder / split).glob("*/*.png")]
            expected = sorted((np.asarray(Image.open(path)).tobytes(), path.parent.name) for path in files)
            splits = (found.train, found.validation, found.test)
            pairs = [pair for split in splits for pair in zip(split.images, split.labels, strict=True)]
            read = sorted((image.tobytes(), found.class_names[label]) for image, label in pairs)
            return None if read == expected else "other images than PIL reads"

        patterns = ["*", "*/*", "*/*/*.png", "*/*/*.png"]
        return self.files(share, "images", patterns, lambda folder: datasets.load(str(folder)), wrong_with)

    def tfds_folder(self, share):
        def load(folder):
            return datasets.load("fuzzed", str(folder))

        def content(dataset):
            splits = (dataset.train, dataset.validation, dataset.test)
            arrays = {i: (split.images.tobytes(), split.labels.tobytes()) for i, split in enumerate(splits)}
            return arrays | {"class names": dataset.class_names}

        with contextlib.redirect_stdout(io.StringIO()):
            expected = content(load(self.whole / "tfds"))
        patterns = ["fuzzed", "*/*", "*/*/*", "*/*/*"]
        return self.files(
            share, "tfds", patterns, load, lambda found, folder: first_difference(content(found), expected)
        )

    def own_classifier(self, share):
        def answers(folder):
            paths = (folder / "classifier.keras", folder / "saved")
            return [np.asarray(load_classifier(str(path), self.images, 10)(self.images)) for path in paths]

        expected = answers(self.whole / "own")
        graph = (self.whole / "own" / "saved" / "saved_model.pb").read_bytes()

        def wrong_with(found, folder):
            same = [np.allclose(one, other, atol=1e-4) for one, other in zip(found, expected, strict=True)]
            # TensorFlow has no checksum of a SavedModel's graph. A damaged graph may be another classifier; train.py
            # prints its accuracy.
            if same == [True, False] and (folder / "saved" / "saved_model.pb").read_bytes() != graph:
                return ANOTHER
            return None if all(same) else "other answers"

        return self.files(share, "own", ["*.keras", "saved", "saved/*", "saved/*/*"], answers, wrong_with)

    def named_files(self, share):
        def use(folder):
            keras.saving.get_custom_objects().clear()
            config = dataclasses.replace(TINY, class_names=str(folder / "names.txt"))
            names = datasets.load_dataset(config, None).class_names
            model, layers = str(self.whole / "named" / "doubled.keras"), str(folder / "layers.py")
            return names, np.asarray(load_classifier(model, self.images, 10, custom_objects=layers)(self.images))

        _, logits = use(self.whole / "named")

        def wrong_with(found, folder):
            lines = (folder / "names.txt").read_text(encoding="utf-8-sig").splitlines()
            if list(found[0]) != [line.strip() for line in lines if line.strip()]:
                return f"names {found[0]}"
            if len(set(found[0])) != 10 or not all(name.isprintable() for name in found[0]):
                return f"names {found[0]}, which are not ten, or not printable"
            if np.allclose(found[1], logits, atol=1e-4):
                return None
            return "other logits" if (folder / "layers.py").read_text() == LAYERS else ANOTHER  # other code

        return self.files(share, "named", ["*.txt", "*.py"], use, wrong_with)

    def evaluated_run(self, share):
        return self.files(
            share, "run", EVALUATED, evaluated, lambda report, folder: first_difference(report, self.report)
        )

    def continued_run(self, share, name, config, patterns, expected):
        return self.files(
            share, name, patterns, lambda folder: trained(config, folder),
            lambda report, folder: first_difference(report, expected),
        )  # fmt: skip


def try_examples(kind: Kind, count: int, seed: int) -> tuple[collections.Counter, list[str]]:
    """Judges examples of a kind; returns how many had which outcome, and the wrong ones."""
    outcomes, failures = collections.Counter(), []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(kind.examples)
    def try_one(example):
        outcome = kind.check(example)
        outcomes[outcome if outcome in RIGHT else "failed"] += 1
        if outcome not in RIGHT:
            shown = example[0] if isinstance(example, tuple) else example
            failures.append(f"{str(shown)[:300]}: {outcome}")

    try_one()
    return outcomes, failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", help="only this kind, with all examples")
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    output = arguments.output and arguments.output.absolute()
    tf.get_logger().setLevel("ERROR")  # without its warnings of repeated tracing
    began = time.perf_counter()
    counts, failures = {}, {}
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        fuzz = Fuzz(pathlib.Path(whole))
        untouched = digest_of(fuzz.whole)
        for name, kind in fuzz.kinds().items():
            if arguments.kind not in (None, name):
                continue
            count = round((1 if arguments.kind else kind.share) * arguments.examples)
            outcomes, failed = try_examples(kind, max(count, 1), arguments.seed)
            counts[name] = dict(outcomes)
            failures |= {name: failed} if failed else {}
            print(f"{name}: {counts[name]}, {time.perf_counter() - began:.0f} s", flush=True)
            print("".join(f"  {line}\n" for line in failed[:20]), end="", flush=True)
        if digest_of(fuzz.whole) != untouched:
            failures["whole"] = ["an undamaged file was changed"]
    result = {
        "n": sum(sum(outcomes.values()) for outcomes in counts.values()),
        "seed": arguments.seed,
        "outcomes": counts,
        "failures": failures,
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "versions": package_versions("hypothesis"),
    }
    if output:
        write_json(output, result)
    if failures:
        sys.exit(f"{sum(map(len, failures.values()))} of {result['n']} examples went wrong")


if __name__ == "__main__":
    main()
