"""Measures what a finished run left in its work folder, from its files alone, beside other attacks."""

import dataclasses
import math
import os
from collections.abc import Callable, Sequence

import tensorflow as tf

from aigan_tf import baselines, preparation, report
from aigan_tf.config import Config
from aigan_tf.data import ImageDataset
from aigan_tf.errors import InputError, user_path
from aigan_tf.evaluation import evaluate_attack
from aigan_tf.export import latest_version
from aigan_tf.perturbation import apply_perturbation
from aigan_tf.workdir import Workdir, read_csv, write_csv, write_json

CURVE_EXAMPLES = 1000  # test images of a success-against-epsilon curve: eight more evaluations
CURVE_POINTS = 8
COMPARED_EXAMPLES = 1000  # test images of a comparison: the other attacks take a hundred times as long
GENERATOR = "aigan"
ATTACKS = (GENERATOR, *baselines.SETTINGS)


def evaluate_workdir(
    workdir: str | os.PathLike,
    data_dir: str | None = None,
    attacks: Sequence[str] = (GENERATOR,),
    num_examples: int | None = None,
    output: str | None = None,
) -> dict:
    """Evaluates a work folder's exported generator on the test split, as TF Serving would run it.

    Args:
        workdir: the work folder of a finished run.
        data_dir: where TFDS data sets lie; None for TFDS's default.
        attacks: what to measure, of `ATTACKS`: the generator alone, or beside foolbox's attacks on the same
            images.
        num_examples: how many test images, from the first; 0 for all; None for all, or for
            `COMPARED_EXAMPLES` where other attacks are measured too.
        output: where to write the JSON report; None for report.json in the work folder (not where only some
            images are measured: the report of all is not given up for it), or comparison.json and
            comparison.csv there for a comparison.

    Returns:
        What was measured, as in the report.

    Raises:
        InputError: the folder, its files or the output cannot be used.
    """
    folder = Workdir(workdir)
    config = _config_of(folder)
    unknown = [name for name in attacks if name not in ATTACKS]
    if unknown or not attacks:
        raise InputError(
            f"--attacks={','.join(attacks)}: {unknown[0] if unknown else 'none'!r} is no attack; expected some of "
            f"{', '.join(ATTACKS)}, by comma: correct it"
        )
    compares = tuple(attacks) != (GENERATOR,)
    if num_examples is None:
        num_examples = COMPARED_EXAMPLES if compares else 0
    if num_examples < 0:
        raise InputError(f"--num_examples={num_examples}: expected 0 (all) or more; give e.g. 1000")
    if latest_version(folder.exports) is None:
        raise InputError(
            f"--workdir={folder.path} has no exported generator; expected {folder.exports}/1: finish the run with train.py"
        )
    dataset = preparation.load_dataset(config, data_dir)
    classifier = preparation.existing_classifier(config, dataset, folder)
    dataset = dataclasses.replace(dataset, test=dataset.test.take(slice(0, num_examples or None)))
    preparation.check_accuracy(classifier, dataset)
    if compares:
        result = compare(folder, config, dataset, classifier, attacks)
        _write(user_path(output) if output else folder.comparison, result)
        return result
    result = measure_export(folder, config, dataset, classifier)
    if num_examples and not output:
        print("Only some images were measured: report.json stays as it is; --output writes a report.", flush=True)
    else:
        _write(user_path(output) if output else folder.report, result)
    return result


def _write(path, result):
    """Writes the JSON report and, of a comparison, its rows as CSV beside it."""
    try:
        write_json(path, result)
        if "attacks" in result:
            rows = [{"name": name, **_flat(row)} for name, row in result["attacks"].items()]
            write_csv(path.with_suffix(".csv"), rows)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); expected a writable file: give --output"
        ) from error
    print(f"Report written to {path}.", flush=True)


def _flat(row):
    low, high = row["success_interval"]
    flat = {name: value for name, value in row.items() if not isinstance(value, dict | list)}
    return flat | {"success_interval_low": low, "success_interval_high": high}


class ExportedGenerator:
    """The newest exported generator of a work folder, loaded as a server loads it.

    Raises:
        InputError: it cannot be loaded.
    """

    def __init__(self, folder: Workdir, targeted: bool):
        version = latest_version(folder.exports)
        try:
            self.loaded = tf.saved_model.load(str(version))  # kept: its variables live as long as it does
            self.serve = self.loaded.signatures["serving_default"]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{version} cannot be loaded; expected the SavedModel train.py exported: delete it and run train.py again"
            ) from error
        self.class_input = "target_class" if targeted else "label"

    def __call__(self, images, classes):
        return self.serve(**{"images": images, self.class_input: classes})["adversarial_images"]

    def within(self, epsilon: float) -> Callable:
        """Returns the attack at a smaller budget, of a generator that takes budgets."""

        def attack(images, classes):
            inputs = {"images": images, self.class_input: classes, "epsilon": tf.fill(tf.shape(classes), epsilon)}
            return self.loaded.signatures["with_epsilon"](**inputs)["adversarial_images"]

        return attack


class Remembered:
    """An attack whose answers are kept, so that the same pictures can be measured again, moved into a budget."""

    def __init__(self, attack: Callable):
        self.attack = attack
        self.answers = []

    def __call__(self, images, classes):
        self.answers.append(self.attack(images, classes))
        return self.answers[-1]

    def moved_into(self, epsilon: float) -> Callable:
        """Returns an attack that answers the same images, asked for in the same order."""
        answers = iter(self.answers)
        return lambda images, classes: apply_perturbation(images, next(answers) - images, epsilon)


def measure_export(folder: Workdir, config: Config, dataset: ImageDataset, classifier: Callable) -> dict:
    """Measures and prints what the newest exported generator does to the test split.

    Raises:
        InputError: the export cannot be loaded.
    """
    generator = ExportedGenerator(folder, config.targeted)

    def measured(attack, test, epsilon):
        return evaluate_attack(
            attack, classifier, test.as_float(), test.labels, dataset.class_names,
            epsilon, config.targeted, split="test", seed=config.seed,
        )  # fmt: skip

    result = {**measured(generator, dataset.test, config.epsilon), "device": preparation.device_name()}
    print(report.success_table(result), flush=True)
    if config.variable_epsilon:
        few = dataset.test.take(slice(0, CURVE_EXAMPLES))
        points = []
        for share in range(1, CURVE_POINTS + 1):
            epsilon = config.epsilon * share / CURVE_POINTS
            point = measured(generator.within(epsilon), few, epsilon)
            points.append({name: point[name] for name in ("epsilon", "num_attacks", "success_rate", "mean_l2")})
        result["success_by_epsilon"] = points
        print(report.epsilon_table(points), flush=True)
    return result


def compare(
    folder: Workdir,
    config: Config,
    dataset: ImageDataset,
    classifier: Callable,
    attacks: Sequence[str],
) -> dict:
    """Measures and prints several attacks on the images of the test split.

    All take the same targets, but for cw, which is too slow for more than one drawn target an image.
    It knows no L-infinity budget: it is measured as it is, and once more moved into the budget.

    Returns:
        The settings, and under `attacks` a dict for each attack as `evaluate_attack` returns it.
    """
    images, labels = dataset.test.as_float(), dataset.test.labels
    rows = {}

    def measure(name, attack, **arguments):
        rows[name] = evaluate_attack(
            attack, classifier, images, labels, dataset.class_names,
            config.epsilon, config.targeted, split="test", seed=config.seed, batch_size=100, **arguments,
        )  # fmt: skip

    for name in attacks:
        print(
            f"Measuring {name} on {len(images)} images: {baselines.SETTINGS.get(name, 'the exported generator')}.",
            flush=True,
        )
        if name == GENERATOR:
            measure(name, ExportedGenerator(folder, config.targeted))
            continue
        attack = baselines.baseline(name, classifier, config.epsilon, config.targeted, config.seed)
        if name != "cw":
            measure(name, attack)
            continue
        attack = Remembered(attack)
        measure(name, attack, targets_per_image=1, bounded=False)
        projected = f"{name}, moved into epsilon"
        measure(projected, attack.moved_into(config.epsilon), targets_per_image=1)
        rows[projected]["milliseconds_per_image"] = rows[name]["milliseconds_per_image"]
    if {"fgsm", "pgd"} <= rows.keys() and rows["fgsm"]["success_rate"] > rows["pgd"]["success_rate"]:
        print(
            "WARNING: fgsm succeeds more often than pgd, the stronger attack; the classifier may hide its gradients, so "
            "that no rate against it means much.",
            flush=True,
        )
    settings = {name: baselines.SETTINGS[name] for name in attacks if name in baselines.SETTINGS}
    training = sum(float(epoch["seconds"]) for epoch in read_csv(folder.metrics))
    result = {
        "device": preparation.device_name(),
        "settings": settings,
        "generator_training_seconds": training,
        "attacks": rows,
    }
    if "pgd" in rows and GENERATOR in rows:
        saved = (rows["pgd"]["milliseconds_per_image"] - rows[GENERATOR]["milliseconds_per_image"]) / 1000
        result["images_until_training_is_paid_for"] = math.ceil(training / saved) if saved > 0 else None
    print(report.comparison_table(result), flush=True)
    return result


def _config_of(folder: Workdir) -> Config:
    saved = folder.read_config()
    missing = [name for name in ("dataset", "classifier", "attack", "epsilon") if name not in saved]
    if missing:
        raise InputError(
            f"{folder.config} has no {missing[0]}; expected the settings train.py writes: restore the file or train again"
        )
    names = [field.name for field in dataclasses.fields(Config)]
    try:  # a setting younger than the folder was at its default
        return Config(**{name: saved[name] for name in names if name in saved})
    except TypeError as error:
        raise InputError(
            f"{folder.config} holds a value of the wrong type ({error}); expected what train.py wrote"
        ) from error
