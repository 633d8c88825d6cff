"""Writes the tables of README and docs/results.md, docs/results/runs.csv and the page of a comparison.

    python tools/tables.py  # everything, from docs/results
    python tools/tables.py results runs/digits runs/cifar10  # copies these runs' measurements to docs/results first
    python tools/tables.py output
    python tools/tables.py comparison
    python tools/tables.py defences
    python tools/tables.py classifiers runs/mnist runs/cifar10 --data_dir=data  # measures their classifiers first
    python tools/tables.py performance
    python tools/tables.py runs
    python tools/tables.py page docs/results/cifar10 --output=cifar10.html

results: the runs. output: what training on the digits prints at its end. comparison: attacks on the same images, as evaluate.py measured them. defences: each
docs/results/*/defenses.json, which is put there by hand. classifiers: docs/results/classifiers.json; other entries are
kept. performance: what the benchmarks measured. runs: docs/results/runs.csv, one row per run, the archived ones
included. page: the HTML page of a run's committed comparison, without images. No number is typed by hand.

README shows the runs of README_RUNS; docs/results.md shows all but the archived runs, and all comparisons.
"""

import argparse
import csv
import io
import json
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aigan_tf.evaluation.report_files import latest_report
from aigan_tf.evaluation.tables import comparison_rows, defence_rows, success_table
from tools import performance
from tools.markdown import replace_section, table
from tools.runs import (
    FILES,
    RESULTS,
    ROOT,
    Run,
    archived_runs,
    classifier_name,
    command,
    current_runs,
    epsilon_text,
    flags,
    minutes,
    superseded_by,
)

README, PAGE, RUNS = "README.md", "docs/results.md", "docs/results/runs.csv"
COMPARISON = "evaluation/report.json"
CLASSIFIERS = RESULTS / "classifiers.json"
# README's rows, each with the targeted success that the paper reports for its data set.
README_RUNS = {"digits": "-", "digits_untargeted": "-", "mnist": "99%", "cifar10": "95%", "cifar100": "90%"}


# Runs


def collect(workdirs: list[pathlib.Path]) -> None:
    """Copies what finished runs measured, and their newest evaluations, into docs/results.

    What an earlier run of that name left is removed.
    """
    for workdir in workdirs:
        sources = {name: workdir / name for name in FILES} | {COMPARISON: latest_report(workdir / "evaluation")}
        for name, source in sources.items():
            target = RESULTS / workdir.resolve().name / name
            if source and source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
            else:
                target.unlink(missing_ok=True)


def _main_cells(run: Run) -> list[str]:
    """Returns the cells that begin a run's row."""
    report = run.report
    worst = (
        f" ({report['worst_target']}: {report['worst_target_success_rate']:.1%})" if "worst_target" in report else ""
    )
    untargeted = ", untargeted" if report["attack"] == "untargeted" else ""
    return [
        f"{run.data_set}, {epsilon_text(run.config['epsilon'])}{untargeted}",
        f"**{report['success_rate']:.2%}**{worst}",
        f"{report['mean_l2']:.2f}",
    ]


def _classifier_cell(run: Run) -> str:
    name = classifier_name(run.config["classifier"]).removeprefix(f"{run.data_set}_")
    return f"{name} ({run.report['clean_accuracy']:.2%})"


def _minutes_cell(run: Run) -> str:
    return f"{minutes(run.classifier_epochs) or '-'}, {minutes(run.epochs)}"


def _stage1_cell(run: Run) -> str:
    """Returns success and L2 of the validation attacks at the end of stage 1."""
    last = run.of_stage(1)[-1]
    success = float(last[f"val_{run.report['attack']}_success_rate"])
    return f"{success:.1%}, {float(last['val_perturbation_l2']):.2f}"


def results_table() -> str:
    """Returns the runs that are not archived, one per row."""
    columns = (
        "data set, epsilon",
        "success (worst target)",
        "mean L2",
        "after stage 1 (validation)",
        "epochs",
        "minutes: classifier, generator",
        "classifier (accuracy)",
        "run",
        "settings",
    )
    rows = [
        [
            *_main_cells(run),
            _stage1_cell(run),
            f"{len(run.of_stage(1))} + {len(run.of_stage(2))}",
            f"{_minutes_cell(run)} ({run.report['device']})",
            _classifier_cell(run),
            f"[{run.name}](results/{run.name})",
            f"`{' '.join(changed)}`" if (changed := flags(run.config)) else "the preset",
        ]
        for run in current_runs()
    ]
    return table(columns, rows)


def readme_results() -> str:
    """Returns README's table: one run per row, beside the paper and PGD with 40 steps."""
    columns = (
        "data set",
        "classifier (accuracy)",
        "epsilon",
        "success (95 %)",
        "paper",
        "PGD-40",
        "ms/image, PGD's",
        "minutes to train",
    )
    runs = {run.name: run for run in current_runs()}
    rows = [
        [
            name.replace("_", ", "),
            _classifier_cell(runs[name]),
            epsilon_text(runs[name].config["epsilon"]),
            _success_cell(runs[name]),
            paper,
            *_cells_beside_pgd(runs[name]),
            f"{minutes(runs[name].epochs)} ({runs[name].report['device'].removeprefix('CPU, ')})",
        ]
        for name, paper in README_RUNS.items()
    ]
    return table(columns, rows)


def readme_output() -> str:
    """Returns what `python train.py` printed of the run on the digits."""
    (digits,) = (run for run in current_runs() if run.name == "digits")
    return f"```\n{success_table(digits.report)}\n```\n"


def _success_cell(run: Run) -> str:
    low, high = run.report["success_interval"]
    return f"**{run.report['success_rate']:.2%}** ({100 * low:.2f}-{100 * high:.2f})"


def _cells_beside_pgd(run: Run) -> list[str]:
    """Returns PGD's success and both attacks' times, from the run's comparison; dashes if it has none."""
    attacks = _comparison(run)["attacks"] if (run.folder / COMPARISON).exists() else {}
    if not {"aigan", "pgd"} <= attacks.keys():
        return ["-", "-"]
    ours, pgd = (attacks[name]["milliseconds_per_image"] for name in ("aigan", "pgd"))
    return [f"{attacks['pgd']['success_rate']:.1%}", f"{ours:.2f}, {pgd:.0f}"]


def runs_csv() -> str:
    """Returns docs/results/runs.csv: all runs, the archived ones with the name of the run that supersedes them."""
    superseding = superseded_by()
    rows = [_csv_row(run, "") for run in current_runs()]
    rows += [_csv_row(run, superseding[run.name]) for run in archived_runs()]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _csv_row(run: Run, superseding: str) -> dict[str, object]:
    """Returns a run as a row of runs.csv. Rates are shares; a cell is empty if the report does not hold its value."""
    config, report = run.config, run.report
    low, high = (f"{bound:.4f}" for bound in report["success_interval"]) if "success_interval" in report else ("", "")
    targeted = "worst_target" in report
    return {
        "run": run.name,
        "data_set": run.data_set,
        "classifier": config["classifier"],
        "classifier_accuracy": f"{report['clean_accuracy']:.4f}",
        "attack": report["attack"],
        "epsilon": epsilon_text(config["epsilon"]),
        "success": f"{report['success_rate']:.4f}",
        "interval_low": low,
        "interval_high": high,
        "worst_target": report["worst_target"] if targeted else "",
        "worst_target_success": f"{report['worst_target_success_rate']:.4f}" if targeted else "",
        "mean_l2": f"{report['mean_l2']:.3f}",
        "attacks": report["num_attacks"],
        "seed": config["seed"],
        "device": report["device"],
        "classifier_minutes": minutes(run.classifier_epochs),
        "generator_minutes": minutes(run.epochs),
        "stage1_epochs": len(run.of_stage(1)),
        "stage2_epochs": len(run.of_stage(2)),
        "commit": config["commit"],
        "command": command(config, run.name),
        "superseded_by": superseding,
    }


# Comparisons and defences


def _compared_runs() -> list[Run]:
    return [run for run in current_runs() if (run.folder / COMPARISON).exists()]


def _comparison(run: Run) -> dict:
    return json.loads((run.folder / COMPARISON).read_text())


def comparison_table() -> str:
    """Returns the comparisons of all runs as one table, without the columns for clean accuracy and Linf."""
    rows = []
    for run in _compared_runs():
        result = _comparison(run)
        header, *cells = comparison_rows(result["attacks"])
        kept = [i for i, name in enumerate(header) if name not in ("clean", "Linf")]
        rows += [[f"{run.name}, {result['classifier']}", *(row[i] for i in kept)] for row in cells]
    return table(["run, classifier", *(header[i] for i in kept)], rows)


def defences_table() -> str:
    """Returns what evaluate.py measured on several work folders, one file after the other."""
    rows = []
    for file in sorted(RESULTS.glob("*/defenses.json")):
        header, *cells = defence_rows(json.loads(file.read_text())["runs"])
        rows += [[pathlib.Path(folder).name, *row] for folder, *row in cells]
    return table(header, rows)


# Classifiers


def classifiers_table() -> str:
    """Returns the classifiers trained here, by data set and name."""
    columns = ("data set", "classifier", "parameters", "epochs", "accuracy (test images)", "minutes", "device")
    results = json.loads(CLASSIFIERS.read_text()).values()
    rows = [
        (
            row["dataset"],
            row["classifier"],
            f"{row['parameters']:,}",
            str(row["epochs"]),
            f"**{row['accuracy']:.2%}** ({row['num_examples']:,})",
            f"{row['training_seconds'] / 60:.1f}" if row["training_seconds"] else "-",
            row["device"],
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


# What each command writes: sections of pages, between their markers, and whole files.
SECTIONS = {
    "results": {PAGE: results_table, README: readme_results},
    "output": {README: readme_output},
    "comparison": {PAGE: comparison_table},
    "defences": {PAGE: defences_table},
    "classifiers": {PAGE: classifiers_table},
    "performance": {PAGE: performance.summary_table},
}
WHOLE_FILES = {
    "performance": {"docs/results/performance/README.md": performance.page},
    "runs": {RUNS: runs_csv},
}


def write(name: str) -> None:
    """Writes the tables of one command."""
    for page, make in SECTIONS.get(name, {}).items():
        replace_section(ROOT / page, name, make())
    for path, make in WHOLE_FILES.get(name, {}).items():
        (ROOT / path).write_text(make())


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = made.add_subparsers(dest="command", metavar="COMMAND", help="see above; left out: all tables")
    own = {name: commands.add_parser(name) for name in SECTIONS | WHOLE_FILES}
    for name in ("results", "classifiers"):
        own[name].add_argument("workdirs", type=pathlib.Path, nargs="*", help="work folders of finished runs")
    own["classifiers"].add_argument("--data_dir", help="folder of TFDS data sets (default: TFDS's own)")
    page = commands.add_parser("page")
    page.add_argument("folder", type=pathlib.Path, help="folder of a run that evaluate.py has measured")
    page.add_argument("--output", type=pathlib.Path, required=True, help="the HTML file to write")
    return made


def main() -> None:
    given = parser().parse_args()
    if given.command == "page":
        write_page(given.folder, given.output)
        return
    if given.command == "results":
        collect(given.workdirs)
    elif given.command == "classifiers" and given.workdirs:
        measure_classifiers(given.workdirs, given.data_dir)
    for name in [given.command] if given.command else SECTIONS | WHOLE_FILES:
        write(name)


if __name__ == "__main__":
    main()
