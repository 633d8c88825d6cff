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
import io
import itertools
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
from judge import config_of_command, first_difference, judge, settings_wrong, state_of
from PIL import Image
from tiny_runs import finish, tiny, untimed

from aigan_tf.classifiers.loading import load_classifier
from aigan_tf.config import Config
from aigan_tf.data import datasets
from aigan_tf.evaluation import compare
from aigan_tf.files import write_json
from aigan_tf.provenance import package_versions
from aigan_tf.training import run
from aigan_tf.workdir import Workdir, config_of, digest_of

SETTINGS = [field.name for field in dataclasses.fields(Config)]
# Entries of a run's folder that are read again.
EXTENDED = {f"run/{name}" for name in ("config.json", "digests.json", "generator.weights.h5")}  # by more epochs
READ = ["config.json", "digests.json", "classifier.keras", "*.weights.h5", "metrics.csv"]
EVALUATED = [*READ, "generator", "*/1/*", "*/1/variables/*"]
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
        """Returns "refused", "accepted", or what is wrong."""
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
            if is_command and outcome == "accepted" and not EXTENDED.issuperset(changed):
                return f"changed {changed}"
            return outcome
        finally:
            damage.remove(copy)


def evaluated(folder: pathlib.Path) -> dict:
    """Evaluates a run and returns the attacks' results without what depends on the clock."""
    rows = compare.evaluate_workdir(folder, num_examples=20, attacks=["aigan", "aigan_stage1"])["attacks"]
    return {name: untimed(row) for name, row in rows.items()}


def continued(folder: pathlib.Path) -> dict:
    return untimed(run.train_and_export(tiny(), folder))


def answers(folder: pathlib.Path) -> dict:
    images = datasets.load("digits").test.as_float()[:8]
    return {"answers": np.asarray(load_classifier(str(folder / "classifier.keras"), images, 10)(images)).tolist()}


def make_kinds(whole: pathlib.Path) -> dict[str, Kind]:
    """Makes the undamaged folders below an empty one, and returns the kinds of inputs by name."""
    with contextlib.redirect_stdout(io.StringIO()):
        report = untimed(finish(whole / "run"))
        rates = evaluated(whole / "run")
    for name in ("config", "commands/folder", "own"):
        (whole / name).mkdir(parents=True)
    shutil.copy(whole / "run" / "config.json", whole / "config")
    shutil.copy(whole / "run" / "classifier.keras", whole / "own")
    shutil.copytree(whole / "run", whole / "commands" / "run")
    (whole / "commands" / "folder" / "file.txt").write_text("text\n")
    (whole / "commands" / "loop").symlink_to("loop")
    random = np.random.default_rng(0)
    for name in itertools.product(("train", "test"), "abc", ("0.png", "1.png")):
        path = whole.joinpath("images", *name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 9), np.uint8)).save(path)

    def files(share, name, patterns, use, wrong_with):
        return Kind(share, whole / name, damage.damaged_folders(whole / name, patterns), use, wrong_with)

    def same(expected):
        return lambda found, folder: first_difference(found, expected)

    return {
        "config.json": config_kind(0.46, whole / "config"),
        "flags": train_command(0.4, whole / "commands"),
        "image folder": files(
            0.1, "images", ["*", "*/*", "*/*/*.png", "*/*/*.png"], lambda folder: datasets.load(str(folder)), other_images
        ),
        "own classifier": files(0.02, "own", ["*.keras"], answers, same(answers(whole / "own"))),
        "run, evaluated": files(0.01, "run", EVALUATED, evaluated, same(rates)),
        "interrupted run, continued": files(0.01, "aigan2_saved", CONTINUED, continued, same(report)),
    }  # fmt: skip


def config_kind(share: float, folder: pathlib.Path) -> Kind:
    def damaged(data):
        return data, lambda copy: damage.replace(copy / "config.json", lambda path: path.write_bytes(data))

    def wrong_with(config, folder):
        saved = json.loads((folder / "config.json").read_bytes())
        read = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
        return first_difference(dataclasses.asdict(Config()) | read, dataclasses.asdict(config)) or settings_wrong(
            config
        )

    saved = json.loads((folder / "config.json").read_text())
    examples = damage.configs(saved, SETTINGS).map(damaged)
    return Kind(share, folder, examples, lambda folder: config_of(Workdir(folder)), wrong_with)


def train_command(share: float, folder: pathlib.Path) -> Kind:
    """Flags of train.py, run in a folder with a run, a folder, and a link to itself."""
    others = ["workdir", "data_dir", "strategy", "export_classifier"]
    likely = {
        "workdir": ["run", "folder", "folder/file.txt/x", "new"],
        "classifier": ["small", "A", "run/classifier.keras"], "black_box": ["small", "B"],
        "attack": ["untargeted"], "defense": ["pgd", "fgsm", "rl"], "dataset": ["digits", "folder", "cifar11"],
        "image_size": ["8,8", "16,16", "0,8", "8"], "input_range": ["0,255", "255,0", "0,inf"],
        "strategy": ["mirrored", "multiworker"],
        "class_names": ["folder/file.txt"], "custom_objects": ["folder/file.txt"],
    }  # fmt: skip

    def use(folder, arguments):
        with contextlib.chdir(folder):
            return config_of_command(arguments)

    examples = damage.command_lines([*SETTINGS, *others], likely)
    return Kind(share, folder, examples, use, lambda config, folder, arguments: settings_wrong(config))


def other_images(found: datasets.ImageDataset, folder: pathlib.Path) -> str | None:
    files = [path for path in folder.rglob("*.png") if path.is_file()]
    expected = sorted((np.asarray(Image.open(path)).tobytes(), path.relative_to(folder).parts[1]) for path in files)
    splits = (found.train, found.validation, found.test)
    pairs = [pair for split in splits for pair in zip(split.images, split.labels, strict=True)]
    read = sorted((image.tobytes(), found.class_names[label]) for image, label in pairs)
    return None if read == expected else "other images than PIL reads"


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
        right = outcome in ("refused", "accepted")
        outcomes[outcome if right else "failed"] += 1
        if not right:
            shown = example[0] if isinstance(example, tuple) else example
            failures.append(f"{str(shown)[:300]}: {outcome}")

    try_one()
    return outcomes, failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    output = arguments.output and arguments.output.absolute()
    tf.get_logger().setLevel("ERROR")  # without its warnings of repeated tracing
    began, counts, failures = time.perf_counter(), {}, {}
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        kinds = make_kinds(pathlib.Path(whole))
        untouched = digest_of(pathlib.Path(whole))
        for name, kind in kinds.items():
            outcomes, failed = try_examples(kind, max(round(kind.share * arguments.examples), 1), arguments.seed)
            counts[name] = dict(outcomes)
            failures |= {name: failed} if failed else {}
            print(f"{name}: {counts[name]}, {time.perf_counter() - began:.0f} s", flush=True)
            print("".join(f"  {line}\n" for line in failed[:20]), end="", flush=True)
        if digest_of(pathlib.Path(whole)) != untouched:
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
