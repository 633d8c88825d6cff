"""train.py's report: the exported generator, measured on the test split."""

from collections.abc import Callable

from aigan_tf import provenance
from aigan_tf.config import Config
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.errors import say
from aigan_tf.evaluation import caveats, tables
from aigan_tf.evaluation.attacks import GENERATOR, build_attacks
from aigan_tf.evaluation.comparison_page import comparison_page
from aigan_tf.evaluation.curves import CURVE_EXAMPLES, success_curve
from aigan_tf.evaluation.examples import examples_of
from aigan_tf.evaluation.finished_run import FinishedRun, run_record
from aigan_tf.evaluation.measure import max_attacks, measure_attack
from aigan_tf.workdir import Workdir

MEASURED_BATCH = 500


def measure_export(folder: Workdir, config: Config, dataset: ImageDataset, classifier: Callable) -> tuple[dict, str]:
    """Measures the newest exported generator of a run on the test split, and prints the result.

    Args:
        folder, config, dataset, classifier: as in `FinishedRun`.

    Returns:
        What was measured, as in report.json, and its page.

    Raises:
        InputError: the export cannot be loaded.
    """
    run = FinishedRun(folder, config, dataset, classifier, max_attacks(dataset.image_shape))
    attacks = build_attacks([GENERATOR], run)
    attack = attacks[GENERATOR]
    record = run_record(run, attacks, MEASURED_BATCH)  # first: a file may be refused
    say(f"Measuring the generator on {len(dataset.test):,} test images.")
    measured = measure_attack(
        attack, run.examples, config.epsilon, config.targeted, config.seed, MEASURED_BATCH, progress=GENERATOR
    ).to_dict()
    result = {"id": record["id"], **measured, "device": provenance.device_name()}
    say(tables.success_table(result))
    if config.variable_epsilon:
        some = run.examples.first_correct(CURVE_EXAMPLES)
        result["success_by_epsilon"] = success_curve(GENERATOR, attack.run.within, config, some)
        say(tables.epsilon_table(result["success_by_epsilon"]))
    shown = record | {
        "generator_training_device": folder.training_device() or result["device"],
        "warnings": caveats.comparison_warnings({GENERATOR: measured}),
        "attacks": {GENERATOR: measured},
        "success_by_epsilon": {GENERATOR: result["success_by_epsilon"]} if config.variable_epsilon else {},
    }
    return result, comparison_page(shown, examples_of(run, attacks))
