"""Copies what finished runs measured into docs/results/ and writes the tables of docs/results.md and README from those files.

    python benchmarks/results_table.py runs/digits runs/cifar10

Without arguments it only writes the tables anew from what docs/results/ holds. No number in them is
typed by hand. What evaluate.py left in evaluation/ comes along. README shows the runs whose folder is
named as their data set, or as it and `_untargeted`, and of each data set the comparison of the most methods;
docs/results.md all of them.
A defenses.json that evaluate.py wrote of several folders is put into a folder of docs/results/ by hand.
"""

import dataclasses
import json
import pathlib
import shutil
import sys

from page_tables import ROOT, into_page, table  # before the package: it puts the checkout on the path

from aigan_tf.config import before_they_existed, make_config
from aigan_tf.evaluation.tables import comparison_rows, defence_rows
from aigan_tf.files import read_csv

RESULTS = ROOT / "docs" / "results"
FILES = ("config.json", "report.json", "metrics.csv", "classifier_metrics.csv")
EVALUATION = ("evaluation/report.json", "evaluation/report.html")
BEGIN, END = "<!-- results: written by benchmarks/results_table.py -->", "<!-- end of results -->"
COMPARISON = "<!-- comparison: written by benchmarks/results_table.py -->", "<!-- end of comparison -->"
DEFENCES = "<!-- defences: written by benchmarks/results_table.py -->", "<!-- end of defences -->"
PAGE = "docs/results.md"
COLUMNS = (
    "command",
    "classifier (accuracy)",
    "attack, epsilon",
    "attacks",
    "success (worst target)",
    "mean L2",
    "after stage 1: success, L2 (validation)",
    "minutes: classifier, generator",
    "device",
)
SHORT = (0, 1, 2, 4, 5, 7)  # of the columns: what README shows


def command(config: dict, name: str) -> str:
    """Returns the command of a run: every setting that differs from its data set's preset, and the work folder's name."""
    preset = dataclasses.asdict(make_config(dataset=config["dataset"]))
    given = {"dataset": config["dataset"]} if config["dataset"] != "digits" else {}
    settings = before_they_existed() | config
    given |= {key: settings[key] for key in preset if settings[key] != preset[key]}
    given |= {"workdir": f"runs/{name}"} if name != config["dataset"] else {}
    return f"`{' '.join(['python train.py', *(f'--{key}={value}' for key, value in given.items())])}`"


def minutes(epochs: list[dict]) -> str:
    """Returns what the epochs took together; a dash where none was recorded."""
    return f"{sum(float(epoch['seconds']) for epoch in epochs) / 60:.1f}" if epochs else "-"


def row(folder: pathlib.Path) -> list[str]:
    """Returns the table's cells for one run."""
    config, report = (json.loads((folder / name).read_text()) for name in FILES[:2])
    epochs, classifier_epochs = (read_csv(folder / name) for name in FILES[2:])
    stage1 = [epoch for epoch in epochs if epoch["stage"] == "1"]
    success = f"val_{report['attack']}_success_rate"
    grey_levels = config["epsilon"] * 255
    epsilon = f"{grey_levels:.0f}/255" if abs(grey_levels - round(grey_levels)) < 1e-6 else f"{config['epsilon']:g}"
    worst = (
        f" ({report['worst_target']}: {report['worst_target_success_rate']:.1%})" if "worst_target" in report else ""
    )
    return [
        command(config, folder.name),
        f"{config['classifier']} ({report['clean_accuracy']:.2%})",
        f"{report['attack']}, {epsilon}",
        f"{report['num_attacks']:,}",
        f"**{report['success_rate']:.2%}**{worst}",
        f"{report['mean_l2']:.2f}",
        f"{float(stage1[-1][success]):.1%}, {float(stage1[-1]['val_perturbation_l2']):.2f}" if stage1 else "-",
        f"{minutes(classifier_epochs)}, {minutes(epochs)}",
        report["device"],
    ]


def dataset_of(folder: pathlib.Path) -> str:
    """Returns the data set of a run."""
    return json.loads((folder / "config.json").read_text())["dataset"]


def in_readme(folder: pathlib.Path) -> bool:
    """Whether a run is the one of its data set that README shows."""
    dataset = dataset_of(folder)
    return folder.name in (dataset, f"{dataset}_untargeted")


def largest_comparisons(folders: list[pathlib.Path]) -> list[pathlib.Path]:
    """Returns of each data set the folder whose comparison has the most methods, then the most attacks."""

    def size(folder: pathlib.Path) -> tuple[int, int]:
        attacks = json.loads((folder / EVALUATION[0]).read_text())["attacks"]
        return len(attacks), max(attack["num_attacks"] for attack in attacks.values())

    largest = {dataset_of(folder): folder for folder in sorted(folders, key=size)}  # a larger one takes its place
    return sorted(largest.values())


def comparison_table(folders: list[pathlib.Path]) -> str:
    """Returns all comparisons as one table, a few columns of each."""
    cells = []
    for folder in folders:
        result = json.loads((folder / EVALUATION[0]).read_text())
        header, *rows = comparison_rows(result["attacks"])
        kept = [i for i, name in enumerate(header) if name not in ("clean", "Linf")]
        cells += [[f"{folder.name}, {result['classifier']}", *(row[i] for i in kept)] for row in rows]
    return table(["run, classifier", *(header[i] for i in kept)], cells)


def defence_table(files: list[pathlib.Path]) -> str:
    """Returns what evaluate.py measured on several work folders, a file after another, as one table."""
    cells = []
    for file in files:
        header, *rows = defence_rows(json.loads(file.read_text()))
        cells += [[pathlib.Path(path).name, *row] for path, *row in rows]
    return table(header, cells)


def main(workdirs: list[str]) -> None:
    for workdir in map(pathlib.Path, workdirs):
        target = RESULTS / workdir.resolve().name
        target.mkdir(parents=True, exist_ok=True)
        for name in (*FILES, *EVALUATION):
            if (workdir / name).exists():  # a user's own classifier has no history
                (target / name).parent.mkdir(exist_ok=True)
                shutil.copy(workdir / name, target / name)
            else:
                (target / name).unlink(missing_ok=True)  # of the run that had this name before
    folders = [folder for folder in sorted(RESULTS.iterdir()) if (folder / "report.json").exists()]
    shown = [folder for folder in folders if in_readme(folder)]
    into_page(PAGE, BEGIN, END, table(COLUMNS, map(row, folders)))
    header, *cells = ([line[i] for i in SHORT] for line in (COLUMNS, *map(row, shown)))
    into_page("README.md", BEGIN, END, table(header, cells))
    compared = [folder for folder in folders if (folder / EVALUATION[0]).exists()]
    for page, runs in ((PAGE, compared), ("README.md", largest_comparisons(compared))):
        into_page(page, *COMPARISON, comparison_table(runs) if runs else "")
    defended = sorted(RESULTS.glob("*/defenses.json"))
    into_page(PAGE, *DEFENCES, defence_table(defended) if defended else "")


if __name__ == "__main__":
    main(sys.argv[1:])
