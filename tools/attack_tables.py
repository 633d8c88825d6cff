"""Tables of docs/results.md that come from comparisons: attacks on the same images, and defences."""

import json
import pathlib
import re
import statistics

from aigan_tf.evaluation.tables import defence_rows
from tools.markdown import table
from tools.run_tables import rate_and_interval, rounded, worst_target
from tools.runs import COMPARISON, RESULTS, Run, current_runs

LONGER_ADVGAN = "advgan_12_epochs.json"


def _compared() -> list[tuple[Run, dict]]:
    """Returns the runs that were compared, with what was measured."""
    runs = [run for run in current_runs() if (run.folder / COMPARISON).exists()]
    return [(run, json.loads((run.folder / COMPARISON).read_text())) for run in runs]


def comparison_table() -> str:
    """Returns all comparisons as one table; the reports have more columns. AdvGAN and stage 1 have tables of their own."""
    columns = ("run", "attack", "success (95 %)", "L2", "unrounded", "worst target", "ms/image")
    rows = [
        [
            run.name.replace("_", ", "),
            attack,
            rate_and_interval(row, digits=1),
            f"{row['mean_l2']:.2f}",
            f"{row['success_rate_float']:.1%}",
            worst_target(row),
            rounded(row["milliseconds_per_image"]),
        ]
        for run, result in _compared()
        for attack, row in result["attacks"].items()
        if attack not in ("advgan", "aigan_stage1")
    ]
    return table(columns, rows)


def advgan_table() -> str:
    """Returns the mean success on AdvGAN's targets, of AI-GAN and of AdvGAN by the epochs of each of its generators."""
    rows = []
    for run, result in _compared():
        means = result.get("mean_success_on_advgan_targets")
        if not means:
            continue
        longer = run.folder / LONGER_ADVGAN
        trained = [result] + ([json.loads(longer.read_text())] if longer.exists() else [])
        rows.append(
            [run.name, "AI-GAN", f"{means['aigan']:.1%}", _l2(result, "aigan"), f"{len(run.epochs)}, all targets"]
        )
        for each in trained:
            rates = [rate for rate in each["attacks"]["advgan"]["success_by_class"].values() if rate is not None]
            settings = each["settings"]["advgan"]
            epochs = re.search(r"\((\d+) epochs", settings)[1]
            rows.append(
                [run.name, "AdvGAN", f"{statistics.mean(rates):.1%}", _l2(each, "advgan"), f"{epochs} per target"]
            )
    return table(["run", "method", "success", "L2", "epochs"], rows)


def _l2(result: dict, attack: str) -> str:
    return f"{result['attacks'][attack]['mean_l2']:.2f}"


def defences_table() -> str:
    """Returns what evaluate.py measured on several work folders, one file after the other."""
    kept = ("work folder", "defense", "clean accuracy", "under fgsm", "under pgd", "aigan: success", "pgd: success")
    rows = []
    for file in sorted(RESULTS.glob("*/defenses.json")):
        header, *cells = defence_rows(json.loads(file.read_text())["runs"])
        named = (dict(zip(header, row, strict=True)) for row in cells)
        rows += [[pathlib.Path(row["work folder"]).name, *(row[title] for title in kept[1:])] for row in named]
    return table(kept, rows)
