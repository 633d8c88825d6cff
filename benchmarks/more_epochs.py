"""What a run that is given more epochs afterwards loses, against one that had them from the start.

    python benchmarks/more_epochs.py --widths=8,32 --seeds=0,1

On the digits: some epochs; more of them by a warm restart, at several shares of the first learning rate; all of them at
once. All attack one classifier. Success is over all nine targets of each validation image, the L2 norm is its mean.
"""

import argparse
import functools
import json
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import aigan_tf  # noqa: F401 isort: skip (before TensorFlow: it sets oneDNN)

from aigan_tf import build
from aigan_tf.classifiers.training import trained_classifier
from aigan_tf.config import make_config
from aigan_tf.data.datasets import load_dataset
from aigan_tf.engine.optimizers import WarmRestarts
from aigan_tf.errors import quiet
from aigan_tf.evaluation.attacks import ExportedGenerator
from aigan_tf.evaluation.evaluation_set import EvaluationSet
from aigan_tf.evaluation.measure import measure_attack
from aigan_tf.files import write_json
from aigan_tf.provenance import device_name
from aigan_tf.training import run
from aigan_tf.workdir import Workdir


def measure_validation(folder, config, dataset, classifier):
    """Stands in for the measurement on the test split, on which nothing is chosen."""
    split = dataset.validation
    examples = EvaluationSet(classifier, split.as_float(), split.labels, dataset.class_names, split="validation")
    generator = ExportedGenerator(folder, config, dataset.image_shape)
    return measure_attack(generator, examples, config.epsilon).to_dict(), ""  # without a page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", default="8,32", help="channels of the generator, by comma")
    parser.add_argument("--seeds", default="0,1", help="by comma")
    parser.add_argument("--restarts", default="0.25,0.5,1", help="shares of the first learning rate, by comma")
    parser.add_argument("--epochs", type=int, default=25, help="of the first part")
    parser.add_argument("--more", type=int, help="epochs added (default: as many)")
    parser.add_argument("--epsilon", type=float, default=0.3)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("runs/more_epochs"))
    given = parser.parse_args()
    widths, seeds, restarts = (text.split(",") for text in (given.widths, given.seeds, given.restarts))
    run.measure_export = measure_validation
    total = given.epochs + (given.more or given.epochs)
    stage1 = min(4, given.epochs // 4)
    models, rows = Workdir(given.output / "classifier"), []
    with quiet():
        trained_classifier(make_config(), load_dataset(make_config(), None), models)

    def train(name, epochs, **settings):
        stages = dict(stage1_epochs=stage1, stage2_epochs=epochs - stage1)
        settings |= dict(stages, epsilon=given.epsilon, classifier=str(models.classifier))
        with quiet():
            result = run.train_and_export(make_config(**settings), given.output / name, extend=True)
        row = {"run": name, **{key: result[key] for key in ("success_rate", "mean_l2", "num_attacks")}}
        print(json.dumps(row), flush=True)
        rows.append(row)
        write_json(given.output / "more_epochs.json", {"rows": rows, "device": device_name()})
        return given.output / name

    for seed in seeds:
        for width in widths:
            settings, case = dict(generator_width=int(width), seed=int(seed)), f"width{width}_seed{seed}"
            begun = train(f"{case}_{given.epochs}", given.epochs, **settings)
            for share in restarts:
                longer = f"{case}_{total}_restart{share}"
                if not (given.output / longer).exists():
                    shutil.copytree(begun, given.output / longer)
                build.WarmRestarts = functools.partial(WarmRestarts, restart=float(share))
                train(longer, total, **settings)
            train(f"{case}_{total}", total, **settings)


if __name__ == "__main__":
    main()
