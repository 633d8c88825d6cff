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
import functools
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import aigan_tf  # noqa: F401 isort: skip (before TensorFlow, which reads its settings on import)
import damage
import hypothesis
import numpy as np
import tensorflow as tf
from judge import ANOTHER, RIGHT, first_difference, given_flags, judge, parsed, run_command, settings_wrong, state_of
from originals import BLACK_BOX, TINY, Originals, evaluated, trained
from PIL import Image

from aigan_tf import cli
from aigan_tf.classifiers.loading import load_classifier
from aigan_tf.config import Config, kind_of, make_config
from aigan_tf.data import datasets
from aigan_tf.evaluation import compare
from aigan_tf.evaluation.attacks import ATTACKS
from aigan_tf.files import write_json
from aigan_tf.provenance import package_versions
from aigan_tf.training import run
from aigan_tf.workdir import Workdir, config_of, digest_of

SETTINGS = {field.name: kind_of(field) for field in dataclasses.fields(Config)}
# Entries of a run's folder that are read again.
READ = ["config.json", "digests.json", "classifier.keras", "*.weights.h5", "metrics.csv"]
EXPORTED = ["generator", "*/1/*", "*/1/variables/*", "advgan"]
EVALUATED = [*READ, *EXPORTED, "advgan/3", "advgan/3/*", "transfer", "transfer/*", "transfer/small/*"]
CONTINUED = [*READ, "logs", "samples", "samples/*", "checkpoints", "checkpoints/*", "checkpoints/aigan/*"]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of input."""

    share: float  # of all examples; those that load models take a hundred times as long as others
    folder: pathlib.Path  # copied for each example
    examples: hypothesis.strategies.SearchStrategy  # `(description, function that damages the copy)`, or arguments
    use: Callable  # of the copy, and of the arguments of a command; an `InputError` refuses it
    wrong_with: Callable  # of what `use` returned and the arguments of `use`; returns what is wrong, or None

    def check(self, example: tuple | list[str]) -> str:
        """Returns one of `RIGHT`, or what is wrong."""
        copy, is_command = pathlib.Path("copy").absolute(), isinstance(example, list)
        given = (copy, example) if is_command else (copy,)
        link = functools.partial(os.link, follow_symlinks=False)
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


class Kinds:
    """The kinds of inputs by name, made from the undamaged originals."""

    def __init__(self, originals: Originals):
        self.folder = originals.folder
        self.by_name = {
            "config.json": self.config(0.25),
            "config.json, continued": self.continued_config(0.136),
            "flags of train": self.train_command(0.30),
            "flags of evaluate": self.evaluate_command(0.12),
            "arguments of advgan": self.second_command(
                0.04, cli.advgan, "trained_classifier", {"epochs": str, "strategy": str},
                {"epochs": ["1", "7", "0"], "strategy": ["none", "mirrored"]}, place=0,
            ),
            "arguments of export": self.second_command(0.02, cli.export, "export", {"export_classifier": bool}, {}, 1),
            "image folder": self.image_folder(0.09),
            "TFDS folder": self.tfds_folder(0.02),
            "own classifier": self.own_classifier(0.015),
            "config.json, evaluated": self.evaluated_config(0.005),
            "run, evaluated": self.reported(0.008, "run", EVALUATED, evaluated, originals.evaluated),
            "run, continued": self.reported(
                0.004, "run", [*CONTINUED, *EXPORTED], functools.partial(trained, TINY), originals.trained
            ),
            "interrupted run, continued": self.reported(
                0.004, "interrupted", [*CONTINUED, "surrogate", "surrogate/*"], functools.partial(trained, BLACK_BOX),
                originals.continued,
            ),
        }  # fmt: skip

    # --- Settings and commands

    def damaged_configs(self):
        def damaged(data):
            return data, lambda copy: damage.replace(copy / "config.json", lambda path: path.write_bytes(data))

        saved = json.loads((self.folder / "config" / "config.json").read_text())
        return damage.configs(saved, list(SETTINGS)).map(damaged)

    def config(self, share):
        def wrong_with(config, folder):
            saved = json.loads((folder / "config.json").read_bytes())
            read = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
            return first_difference(read, dataclasses.asdict(config)) or settings_wrong(config)

        folder = self.folder / "config"
        return Kind(share, folder, self.damaged_configs(), lambda folder: config_of(Workdir(folder)), wrong_with)

    def continued_config(self, share):
        settings = dataclasses.asdict(TINY)

        def wrong_with(continued, folder):
            saved = json.loads((folder / "config.json").read_bytes())
            differs = [name for name in SETTINGS if json.dumps(saved.get(name)) != json.dumps(settings[name])]
            return f"the same run with another {differs[0]}" if differs or not continued else None

        def use(folder):
            return Workdir(folder).check(settings, {"dataset": "0"})

        return Kind(share, self.folder / "config", self.damaged_configs(), use, wrong_with)

    def evaluated_config(self, share):
        def wrong_with(report, folder):
            names = ("success_rate", "clean_accuracy", "mean_l2")
            rates = [row[name] for row in report["attacks"].values() for name in names]
            return None if np.isfinite(rates).all() and min(rates) >= 0 else f"rates of {rates}"

        return Kind(share, self.folder / "run", self.damaged_configs(), evaluated, wrong_with)

    def command(self, share, command, stubs, examples, wrong_with):
        """The kind of a command's arguments, run in a folder with a run, a folder, and a link to itself.

        `wrong_with` is called with the arguments of the stub and of the command; `stubs` is as in `run_command`.
        """

        def use(folder, arguments):
            with contextlib.chdir(folder):
                return run_command(command, arguments, stubs)

        def judged(taken, folder, arguments):
            with contextlib.chdir(folder):
                return wrong_with(taken, arguments)

        return Kind(share, self.folder / "commands", examples, use, judged)

    def train_command(self, share):
        others = {"workdir": str, "data_dir": str, "strategy": str, "export_classifier": bool}
        likely = {
            "workdir": ["run", "folder", "folder/file.txt/x", "new"],
            "classifier": ["small", "A", "run/classifier.keras"], "black_box": ["small", "B"],
            "attack": ["untargeted"], "defense": ["pgd", "fgsm", "rl"], "dataset": ["digits", "folder", "cifar11"],
            "image_size": ["8,8", "16,16", "0,8", "8"], "input_range": ["0,255", "255,0", "0,inf"],
            "strategy": ["mirrored", "multiworker"],
            "class_names": ["folder/file.txt"], "custom_objects": ["folder/file.txt"],
        }  # fmt: skip

        def wrong_with(taken, arguments):
            _, given = given_flags(arguments, SETTINGS | others)
            values = {name: parsed(text, SETTINGS[name]) for name, text in given.items() if name in SETTINGS}
            return "other settings than given" if taken[0] != make_config(**values) else settings_wrong(taken[0])

        stubs = [(run, name) for name in ("trained_classifier", "hardened_classifier", "train_generator")]
        examples = damage.command_lines([*SETTINGS, *others], likely)
        return self.command(share, cli.train, stubs, examples, wrong_with)

    def evaluate_command(self, share):
        likely = {
            "workdir": ["run", "run,run", "folder", "loop"], "num_examples": ["0", "1", "300", "301"],
            "attacks": ["aigan", "fgsm,pgd", "advgan", "cw,cw", "aigan,"],
            "output": ["folder", "folder/file.txt", "new"], "save_images": ["folder", "new", "folder/file.txt"],
            "transfer_to": ["run", "run/classifier.keras", "A"],
        }  # fmt: skip
        names = [*likely, "data_dir", "custom_objects"]

        def wrong_with(taken, arguments):
            _, given = given_flags(arguments, dict.fromkeys(names, str))
            attacks = [name.strip() for name in given.get("attacks", "aigan").split(",")]
            negative = parsed(given.get("num_examples", "0"), int) < 0
            return f"{given}" if negative or not {*attacks, ""} <= {*ATTACKS, ""} else None

        examples = damage.command_lines(names, likely).map(lambda arguments: ["--workdir=run", *arguments])
        return self.command(share, cli.evaluate, [(compare, "compare")], examples, wrong_with)

    def second_command(self, share, command, stub, flags, likely, place):
        """The kind of a command's arguments whose settings are the run's: the argument of the stub at `place`."""
        flags = {"data_dir": str, "custom_objects": str} | flags

        def wrong_with(taken, arguments):
            (_, *classes), given = given_flags(arguments, flags)
            known = all(name.isdecimal() and int(name) < 10 for name in classes)
            right = known and parsed(given.get("epochs", "1"), int) >= 1 and taken[place] == TINY
            return None if right else f"{classes}, {given}, settings {taken[place]}"

        examples = damage.command_lines(list(flags), likely, [*["run"] * 6, "folder", "loop"])
        return self.command(share, command, [(run, stub)], examples, wrong_with)

    # --- Files

    def files(self, share, name, patterns, use, wrong_with):
        folder = self.folder / name
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
        def read(folder):
            dataset = datasets.load("fuzzed", str(folder))
            splits = (dataset.train, dataset.validation, dataset.test)
            arrays = {i: (split.images.tobytes(), split.labels.tobytes()) for i, split in enumerate(splits)}
            return arrays | {"class names": dataset.class_names}

        return self.reported(share, "tfds", ["fuzzed", "*/*", "*/*/*", "*/*/*"], read, read(self.folder / "tfds"))

    def own_classifier(self, share):
        images = datasets.load("digits").test.as_float()[:8]

        def answers(folder):
            paths = (folder / "classifier.keras", folder / "saved")
            return [np.asarray(load_classifier(str(path), images, 10)(images)) for path in paths]

        expected = answers(self.folder / "own")
        graph = (self.folder / "own" / "saved" / "saved_model.pb").read_bytes()

        def wrong_with(found, folder):
            same = [np.allclose(one, other, atol=1e-4) for one, other in zip(found, expected, strict=True)]
            # TensorFlow has no checksum of a SavedModel's graph. A damaged graph may be another classifier; train.py
            # prints its accuracy.
            if same == [True, False] and (folder / "saved" / "saved_model.pb").read_bytes() != graph:
                return ANOTHER
            return None if all(same) else "other answers"

        return self.files(share, "own", ["*.keras", "saved", "saved/*", "saved/*/*"], answers, wrong_with)

    def reported(self, share, name, patterns, report, expected):
        return self.files(share, name, patterns, report, lambda found, folder: first_difference(found, expected))


def try_examples(kind: Kind, count: int, seed: int) -> tuple[collections.Counter, list[str]]:
    """Judges examples of a kind; returns how many had which outcome, and the wrong ones."""
    outcomes, failures = collections.Counter(), []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count, database=None, deadline=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
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
    began, counts, failures = time.perf_counter(), {}, {}
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        whole = pathlib.Path(whole)
        kinds = Kinds(Originals(whole)).by_name
        untouched = digest_of(whole)
        for name, kind in kinds.items():
            if arguments.kind not in (None, name):
                continue
            count = round((1 if arguments.kind else kind.share) * arguments.examples)
            outcomes, failed = try_examples(kind, max(count, 1), arguments.seed)
            counts[name] = dict(outcomes)
            failures |= {name: failed} if failed else {}
            print(f"{name}: {counts[name]}, {time.perf_counter() - began:.0f} s", flush=True)
            print("".join(f"  {line}\n" for line in failed[:20]), end="", flush=True)
        if digest_of(whole) != untouched:
            failures["whole"] = ["an undamaged file was changed"]
    result = {
        "n": sum(sum(outcomes.values()) for outcomes in counts.values()), "seed": arguments.seed,
        "outcomes": counts, "failures": failures, "minutes": round((time.perf_counter() - began) / 60, 1),
        "versions": package_versions("hypothesis"),
    }  # fmt: skip
    if output:
        write_json(output, result)
    if failures:
        sys.exit(f"{sum(map(len, failures.values()))} of {result['n']} examples went wrong")


if __name__ == "__main__":
    main()
