"""evaluate.py on several work folders: how classifiers that were defended in different ways hold."""

from collections.abc import Sequence

from aigan_tf import workdir
from aigan_tf.config import is_built_in
from aigan_tf.errors import InputError
from aigan_tf.evaluation import caveats, html_page, tables
from aigan_tf.evaluation.attacks import GENERATOR
from aigan_tf.evaluation.compare import COMPARED_EXAMPLES, evaluate_workdir
from aigan_tf.evaluation.measure import interval
from aigan_tf.files import read_csv, report_folder, user_path, write_report
from aigan_tf.workdir import Workdir


def compare_defences(
    workdirs: Sequence[str],
    data_dir: str | None = None,
    attacks: Sequence[str] = (GENERATOR,),
    num_examples: int | None = None,
    output: str | None = None,
    custom_objects: Sequence[str] = (),
) -> dict:
    """Evaluates several work folders, whose classifiers were defended in different ways, and sets them side by side.

    Beside the attacks asked for, each classifier's accuracy under foolbox's FGSM and PGD, untargeted, is
    measured: a defence that holds against the first alone hides its gradients.

    Args:
        workdirs: the work folders; each also gets its own evaluation/, as from `evaluate_workdir`.
        data_dir, attacks, num_examples, custom_objects: as in `evaluate_workdir`.
        output: folder for defenses.json, defenses.csv and defenses.html; None for runs/defenses.

    Returns:
        Work folder to clean accuracy, accuracy under each untargeted attack, and targeted success of each attack.

    Raises:
        InputError: a folder, its files or the output cannot be used.
    """
    configs = {
        str(path): workdir.config_of(Workdir(path)) for path in workdirs
    }  # all of them, before hours are spent on one
    for name in ("dataset", "epsilon", "attack"):
        values = {getattr(config, name) for config in configs.values()}
        if len(values) > 1:
            raise InputError(
                f"--workdir={','.join(configs)}: runs with {name} {' and '.join(map(str, sorted(values)))}; expected the same "
                "to set them side by side: leave one out"
            )
    num_examples = COMPARED_EXAMPLES if num_examples is None else num_examples  # the same for every column
    output = report_folder(user_path(output or "runs/defenses"), "defenses")
    rows = {}
    for path, config in configs.items():
        print(f"== {path}", flush=True)
        result = evaluate_workdir(
            path, data_dir, attacks, num_examples, robust_against=("fgsm", "pgd"), custom_objects=custom_objects
        )
        measured, robust = next(iter(result["attacks"].values())), result["robust_accuracy"]
        rows[path] = {
            "classifier": config.classifier,
            "defense": config.defense or "none",
            "classifier_epochs": len(read_csv(Workdir(path).classifier_metrics)) or None,  # a file may have no history
            "dataset": result["dataset"],
            "split": measured["split"],
            "attack": measured["attack"],
            "seed": measured["seed"],
            "epsilon": config.epsilon,
            "num_examples": measured["num_examples"],
            "clean_accuracy": measured["clean_accuracy"],
            "robust_accuracy": robust,
            "accuracy_interval": {
                name: interval(round(value * measured["num_examples"]), measured["num_examples"])
                for name, value in {"clean": measured["clean_accuracy"], **robust}.items()
            },
            "num_attacks": {name: row["num_attacks"] for name, row in result["attacks"].items()},
            "settings": result["settings"],
            "success_rate": {name: row["success_rate"] for name, row in result["attacks"].items()},
            "success_interval": {name: row["success_interval"] for name, row in result["attacks"].items()},
            "warnings": list(result["warnings"]),
            **{name: result[name] for name in ("device", "processor", "batch_size", "versions", "commit")},
        }
        # One that was trained here without a defence claims none. A file may have one.
        if config.defense or not is_built_in(config.classifier):
            rows[path]["warnings"] += caveats.defence_warnings(robust["fgsm"], robust["pgd"])
    print(tables.aligned(tables.defence_rows(rows)), flush=True)
    warnings = [f"{path}: {warning}" for path, row in rows.items() for warning in row["warnings"]]
    for warning in warnings:
        print(f"WARNING: {warning}", flush=True)
    cells = tables.defence_rows(rows)
    write_report(
        output,
        "defenses",
        rows,
        [dict(zip(cells[0], row, strict=True)) for row in cells[1:]],
        html_page.defence_page(rows, warnings),
    )
    return rows
