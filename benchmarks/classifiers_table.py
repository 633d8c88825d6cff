"""Measures the classifiers that work folders hold on their whole test splits, for docs/results/ and docs/results.md.

    python benchmarks/classifiers_table.py runs/mnist runs/cifar10 --data_dir=...

Writes docs/results/classifiers.json (entries of work folders not given are kept) and the table of
classifiers from it. No number of the table is typed by hand.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import aigan_tf  # noqa: F401 isort: skip (before TensorFlow: it sets oneDNN)
import keras
from absl import app, flags
from page_tables import ROOT, into_page, table

from aigan_tf.classifiers import architectures
from aigan_tf.classifiers.accuracy import accuracy
from aigan_tf.data.datasets import load
from aigan_tf.files import read_csv, write_json
from aigan_tf.provenance import device_name
from aigan_tf.workdir import Workdir

_DATA_DIR = flags.DEFINE_string("data_dir", None, "folder of TFDS data sets (default: TFDS's own)")

RESULTS = ROOT / "docs" / "results" / "classifiers.json"
COLUMNS = ("data set", "classifier", "parameters", "epochs", "accuracy (test images)", "minutes", "device")
BEGIN, END = "<!-- classifiers: written by benchmarks/classifiers_table.py -->", "<!-- end of classifiers -->"


def measure(folder: Workdir) -> dict:
    """Returns what is known of a work folder's classifier."""
    config = folder.read_config()
    test = load(config["dataset"], _DATA_DIR.value).test
    model = keras.models.load_model(folder.classifier, compile=False)
    epochs = read_csv(folder.classifier_metrics)
    recipe = architectures.ARCHITECTURES[config["classifier"].lower()].recipe
    return {
        "dataset": config["dataset"],
        "classifier": config["classifier"],
        "parameters": model.count_params(),
        "epochs": config["classifier_epochs"] or recipe.epochs,
        "seed": config["seed"],
        "num_examples": len(test),
        "accuracy": accuracy(architectures.frozen(model), test.as_float(), test.labels),
        # None: trained by a version that kept no history.
        "training_seconds": sum(float(epoch["seconds"]) for epoch in epochs) or None,
        "device": device_name(),
    }


def main(arguments):
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for workdir in map(pathlib.Path, arguments[1:]):
        results[workdir.resolve().name] = measure(Workdir(workdir))
    write_json(RESULTS, dict(sorted(results.items())))
    rows = []
    for row in sorted(results.values(), key=lambda row: (row["dataset"], row["classifier"].lower())):
        seconds = row["training_seconds"]
        rows.append(
            (
                row["dataset"],
                row["classifier"],
                f"{row['parameters']:,}",
                str(row["epochs"]),
                f"**{row['accuracy']:.2%}** ({row['num_examples']:,})",
                f"{seconds / 60:.1f}" if seconds else "-",
                row["device"],
            )
        )
    text = table(COLUMNS, rows)
    into_page("docs/results.md", BEGIN, END, text)
    print(text)


if __name__ == "__main__":
    app.run(main)
