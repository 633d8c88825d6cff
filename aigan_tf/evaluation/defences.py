"""evaluate.py on several runs: classifiers with different defences side by side."""

import pathlib
from collections.abc import Mapping, Sequence

from aigan_tf.checks import check_finished_run
from aigan_tf.config import FORMAT, Config, is_built_in
from aigan_tf.errors import InputError, say, shown_value
from aigan_tf.evaluation import caveats, tables
from aigan_tf.evaluation.attacks import GENERATOR
from aigan_tf.evaluation.compare import COMPARED_EXAMPLES, measure_workdir
from aigan_tf.evaluation.comparison_page import defence_page
from aigan_tf.evaluation.report_files import check_place, report_parts, write_report
from aigan_tf.evaluation.results import wilson_interval
from aigan_tf.files import different_names, read_csv, user_path
from aigan_tf.workdir import Workdir

ROBUST_AGAINST = ("fgsm", "pgd")
DEFENCES = pathlib.Path("runs/defenses")


def compare_defences(
    workdirs: Sequence[str],
    data_dir: str | None = None,
    attacks: Sequence[str] = (GENERATOR,),
    num_examples: int | None = None,
    output: str | None = None,
    custom_objects: Sequence[str] = (),
) -> dict[str, dict]:
    """Evaluates several runs whose classifiers have different defences, and sets them side by side.

    Besides the given attacks, it measures each classifier's accuracy under foolbox's FGSM and PGD, untargeted: a defence
    that holds against the first alone masks its gradients.

    Args:
        workdirs: the runs' folders. The report holds a folder per run with what `measure_workdir` gives.
        data_dir, attacks, custom_objects: as in `measure_workdir`.
        num_examples: how many test images, from the first; 0 for all; None for `COMPARED_EXAMPLES`.
        output: the new folder, for defenses.html, defenses.json and defenses.csv; None for one in runs/defenses, named by
            the time, which the text file runs/defenses/latest then names.

    Returns:
        Folder to what was measured, as under `runs` in defenses.json, there by name: `clean_accuracy`, `robust_accuracy`
        under each untargeted attack, `success_rate` of each given attack, ...

    Raises:
        InputError: a folder, its files or the output cannot be used.
    """
    # All of them, before hours are spent on one.
    configs = {str(path): check_finished_run(path, data_dir, custom_objects)[1] for path in workdirs}
    _check_comparable(configs)
    num_examples = COMPARED_EXAMPLES if num_examples is None else num_examples  # the same whatever the attacks
    check_place(DEFENCES, output)
    rows, details = {}, {}
    names = dict(zip(configs, different_names(user_path(path).absolute().name for path in configs), strict=True))
    try:
        for path, config in configs.items():
            say(f"== {path}")
            result, parts = measure_workdir(
                path, data_dir, attacks, num_examples, robust_against=ROBUST_AGAINST, custom_objects=custom_objects
            )
            say(tables.comparison_text(result))
            rows[path] = _row(path, config, result)
            details |= {f"{names[path]}/{part}": data for part, data in parts.items()}
    except BaseException:
        if details:  # the runs that are measured keep their reports
            write_report(DEFENCES, output, details)
        raise
    by_name = {names[path]: row for path, row in rows.items()}
    warnings = [f"WARNING: {path}: {warning}" for path, row in rows.items() for warning in row["warnings"]]
    summary = "\n".join([tables.defence_text(by_name), *warnings])
    cells = tables.defence_rows(by_name)
    csv_rows = [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]
    contents = {"format": FORMAT, "runs": by_name}
    parts = report_parts("defenses", contents, csv_rows, defence_page(by_name)) | details
    write_report(DEFENCES, output, parts, summary)
    return rows


def _check_comparable(configs: Mapping[str, Config]):
    for name in ("dataset", "epsilon", "attack"):
        values = sorted({getattr(config, name) for config in configs.values()})
        if len(values) > 1:
            raise InputError(
                tuple(configs),
                f"runs with the same {name}",
                "leave one out",
                setting="workdir",
                problem=f"has {name} {' and '.join(map(shown_value, values))}",
            )


def _row(path, config, result):
    """Returns what defenses.json holds about one run, from its report.json."""
    attacks, robust = result["attacks"], result["robust_accuracy"]
    first = next(iter(attacks.values()))
    row = {
        "classifier": result["classifier"],
        "defense": config.defense or "none",
        "classifier_epochs": len(read_csv(Workdir(path).classifier_metrics)) or None,  # a model file has no history
        "dataset": result["dataset"],
        "split": first["split"],
        "attack": first["attack"],
        "seed": first["seed"],
        "epsilon": config.epsilon,
        "num_examples": first["num_examples"],
        "clean_accuracy": first["clean_accuracy"],
        "robust_accuracy": robust,
        "accuracy_interval": {
            name: wilson_interval(round(value * first["num_examples"]), first["num_examples"])
            for name, value in {"clean": first["clean_accuracy"], **robust}.items()
        },
        "num_attacks": {name: attack["num_attacks"] for name, attack in attacks.items()},
        "settings": result["settings"],
        "success_rate": {name: attack["success_rate"] for name, attack in attacks.items()},
        "success_interval": {name: attack["success_interval"] for name, attack in attacks.items()},
        "warnings": list(result["warnings"]),
        **{
            name: result[name]
            for name in ("id", "date", "command", "device", "processor", "batch_size", "versions", "commit")
        },
    }
    # A classifier trained here without a defence claims none; a model file may have one.
    if config.defense or not is_built_in(config.classifier):
        row["warnings"] += caveats.defence_warnings(robust["fgsm"], robust["pgd"])
    return row
