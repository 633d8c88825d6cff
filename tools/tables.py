"""Writes the tables of README and docs/, docs/results/runs.csv and the page of a comparison. No number is typed by hand.

    python tools/tables.py  # all of them, from docs/results
    python tools/tables.py results runs/digits runs/cifar10  # copies what these runs measured to docs/results first
    python tools/tables.py classifiers runs/mnist runs/cifar10 --data_dir=data  # measures their classifiers first
    python tools/tables.py page docs/results/cifar10 --output=cifar10.html  # the page of a comparison, without images

`run_tables.py` says which runs the pages show; docs/results/runs.csv has all of them, the archived ones included.
docs/results/*/defenses.json and docs/results/ablation.json are put there by hand.
"""

import argparse
import json
import pathlib
import re
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aigan_tf.evaluation.report_files import latest_report
from aigan_tf.files import write_json
from tools import ablation, attack_tables, performance, run_tables
from tools.markdown import replace_section, table
from tools.runs import COMPARISON, FILES, RESULTS, ROOT, published_settings

README, PAGE, RUNS, METHOD = "README.md", "docs/results.md", "docs/results/README.md", "docs/method.md"
CLASSIFIERS = RESULTS / "classifiers.json"


# Runs


def collect(workdirs: list[pathlib.Path]) -> None:
    """Copies what finished runs measured, and their newest evaluations, into docs/results.

    What an earlier run of that name left is removed.
    """
    for workdir in workdirs:
        sources = {name: workdir / name for name in FILES[1:]} | {COMPARISON: latest_report(workdir / "evaluation")}
        for name, source in sources.items():
            target = RESULTS / workdir.resolve().name / name
            if source and source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
            else:
                target.unlink(missing_ok=True)
        write_json(RESULTS / workdir.resolve().name / "config.json", published_settings(workdir))


# Classifiers


def classifiers_table() -> str:
    """Returns the classifiers trained here, by data set and name."""
    columns = ("data set", "classifier", "accuracy (test images)", "parameters", "epochs", "minutes")
    results = json.loads(CLASSIFIERS.read_text()).values()
    rows = [
        (
            row["dataset"],
            row["classifier"],
            f"{row['accuracy']:.2%} ({row['num_examples']:,})",
            f"{row['parameters']:,}",
            str(row["epochs"]),
            f"{row['training_seconds'] / 60:.1f}" if row["training_seconds"] else "-",
        )
        for row in sorted(results, key=lambda row: (row["dataset"], row["classifier"].lower()))
    ]
    return table(columns, rows)


def measure_classifiers(workdirs: list[pathlib.Path], data_dir: str | None) -> None:
    """Measures the classifiers of work folders on their whole test splits, into docs/results/classifiers.json."""
    results = json.loads(CLASSIFIERS.read_text())
    results |= {workdir.resolve().name: _measured_classifier(workdir, data_dir) for workdir in workdirs}
    CLASSIFIERS.write_text(json.dumps(dict(sorted(results.items())), indent=2))


def _measured_classifier(workdir: pathlib.Path, data_dir: str | None) -> dict:
    import aigan_tf  # noqa: F401 isort: skip (before TensorFlow: it sets oneDNN)
    import keras

    from aigan_tf.classifiers import architectures
    from aigan_tf.classifiers.accuracy import accuracy
    from aigan_tf.data.datasets import load
    from aigan_tf.files import read_csv
    from aigan_tf.provenance import device_name

    config = json.loads((workdir / "config.json").read_text())
    test = load(config["dataset"], data_dir).test
    model = keras.models.load_model(workdir / "classifier.keras", compile=False)
    epochs = read_csv(workdir / "classifier_metrics.csv")
    recipe = architectures.ARCHITECTURES[config["classifier"].lower()].recipe
    return {
        "dataset": config["dataset"],
        "classifier": config["classifier"],
        "parameters": model.count_params(),
        "epochs": config["classifier_epochs"] or recipe.epochs,
        "seed": config["seed"],
        "num_examples": len(test),
        "accuracy": accuracy(architectures.frozen(model), test.as_float(), test.labels),
        "training_seconds": sum(float(epoch["seconds"]) for epoch in epochs) or None,  # None: no history was kept
        "device": device_name(),
    }


# The page of a comparison


def write_page(folder: pathlib.Path, output: pathlib.Path) -> None:
    """Writes the HTML page of a run's comparison from its files; early ones do not name the training's device."""
    from aigan_tf.evaluation.comparison_page import comparison_page

    report = latest_report(folder / "evaluation")
    if report is None:
        sys.exit(f"error: {folder} holds no evaluation; expected what evaluate.py wrote; run it on this folder")
    trained_on = json.loads((folder / "report.json").read_text())["device"]
    result = {"generator_training_device": trained_on} | json.loads(report.read_text())
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(comparison_page(result))


# Effects in sentences

EFFECT = re.compile(r"(<!-- effect: (.+?) -->).*?(<!-- end -->)")


def method_page() -> str:
    """Returns docs/method.md with the effect of each row of the ablation that it names."""
    text = (ROOT / METHOD).read_text()
    return EFFECT.sub(lambda found: f"{found[1]}{ablation.effect(found[2])}{found[3]}", text)


# What is written: sections of pages, between their markers, and whole files.
SECTIONS = {
    README: {"results": run_tables.readme_table, "output": run_tables.readme_output},
    PAGE: {
        "results": run_tables.main_table,
        "comparison": attack_tables.comparison_table,
        "advgan": attack_tables.advgan_table,
        "stages": run_tables.stages_table,
        "ablation": ablation.ablation_table,
        "terms": run_tables.terms_table,
    },
    RUNS: {
        "classifiers": classifiers_table,
        "epsilon": run_tables.epsilon_table,
        "defences": attack_tables.defences_table,
        "presets": run_tables.presets_0_1,
        "commands": run_tables.commands_table,
    },
}
WHOLE_FILES = {
    METHOD: method_page,
    "docs/results/performance/README.md": performance.page,
    "docs/results/runs.csv": run_tables.runs_csv,
}


def write_all() -> None:
    """Writes every table."""
    for page, sections in SECTIONS.items():
        for name, make in sections.items():
            replace_section(ROOT / page, name, make())
    for path, make in WHOLE_FILES.items():
        (ROOT / path).write_text(make())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", help="see above; left out: write all tables")
    for name in ("results", "classifiers"):
        own = commands.add_parser(name)
        own.add_argument("workdirs", type=pathlib.Path, nargs="+", help="work folders of finished runs")
        own.add_argument("--data_dir", help="folder of TFDS data sets (default: TFDS's own)")
    page = commands.add_parser("page")
    page.add_argument("folder", type=pathlib.Path, help="folder of a run that evaluate.py has measured")
    page.add_argument("--output", type=pathlib.Path, required=True, help="the HTML file to write")
    given = parser.parse_args()
    if given.command == "page":
        write_page(given.folder, given.output)
        return
    if given.command == "results":
        collect(given.workdirs)
    elif given.command == "classifiers":
        measure_classifiers(given.workdirs, given.data_dir)
    write_all()


if __name__ == "__main__":
    main()
