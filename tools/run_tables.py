"""Tables of runs: README's, those of docs/results.md, and docs/results/runs.csv."""

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence

from aigan_tf.evaluation.tables import success_table
from tools.markdown import table
from tools.runs import (
    COMPARISON,
    RECIPE_0_1,
    Run,
    archived_runs,
    classifier_name,
    command,
    current_runs,
    epsilon_text,
    flags,
    minutes,
    setting_text,
    superseded_by,
)

# The success that the paper reports for its classifiers of a data set, and README's rows.
PAPER = {"mnist": 0.99, "cifar10": 0.95, "cifar100": 0.90}
README_RUNS = ("digits", "digits_untargeted", "mnist", "cifar10", "cifar100")
# The runs of the main table, with what its row says beside the data set.
MAIN_RUNS = {
    "digits": "",
    "digits_untargeted": "untargeted",
    "digits_black_box": "black box",
    "mnist": "",
    "mnist_A": "",
    "mnist_B": "",
    "mnist_one_block": "shipped",
    "cifar10": "shipped",
    "cifar100": "shipped",
}
# Runs with both stages, and the control of each, whose attacker stays.
STAGES = {
    "mnist_B": "mnist_B_control",
    "cifar10_two_stages": "cifar10_control",
    "cifar100_two_stages": "cifar100_control",
}
# Objectives, each with the runs of all seeds.
TERMS = {
    "digits": {
        "all three terms": ("digits_one_core", "digits_one_core_seed1", "digits_one_core_seed2"),
        "no discriminator": ("digits_no_gan", "digits_no_gan_seed1", "digits_no_gan_seed2"),
        "no hinge": ("digits_no_hinge", "digits_no_hinge_seed1", "digits_no_hinge_seed2"),
    },
    "mnist, B": {
        "all three terms": ("mnist_B", "mnist_B_seed1", "mnist_B_seed2"),
        "no discriminator": ("mnist_B_no_gan",),
        "no hinge": ("mnist_B_no_hinge",),
    },
}
# Generators for every epsilon, each with the run that is trained for the largest alone.
EVERY_EPSILON = {
    "digits_variable_epsilon": "digits_0_1",
    "digits_variable_epsilon_seed1": "digits_0_1_seed1",
    "digits_variable_epsilon_seed2": "digits_0_1_seed2",
    "cifar10_variable_epsilon": "cifar10_two_stages",
}
FLAGS_0_1 = tuple(f"--{name}={setting_text(name, value)}" for name, value in RECIPE_0_1.items())


def _runs() -> dict[str, Run]:
    return {run.name: run for run in current_runs()}


def link(run: Run) -> str:
    """Returns a run's name as a link from a page in docs/."""
    return f"[{run.name}](results/{run.name})"


def rate_and_interval(report: Mapping, bold: bool = False, digits: int = 2) -> str:
    """Returns a success rate with its interval, in %."""
    low, high = report["success_interval"]
    rate = f"{report['success_rate']:.{digits}%}"
    return f"{f'**{rate}**' if bold else rate} ({100 * low:.{digits}f}-{100 * high:.{digits}f})"


def worst_target(report: Mapping) -> str:
    """Returns the target that is reached least often, with its rate."""
    return f"{report['worst_target_success_rate']:.1%} ({report['worst_target']})" if "worst_target" in report else "-"


def _classifier_cell(run: Run) -> str:
    name = classifier_name(run.config["classifier"]).removeprefix(f"{run.data_set}_")
    if name.endswith("/classifier.keras"):  # that of another run
        name = _runs()[name.split("/")[0]].config["classifier"]
    return f"{name} ({run.report['clean_accuracy']:.2%})"


# Of the runs of their own


def main_table() -> str:
    """Returns one row per data set and classifier, beside the paper."""
    columns = ("run, epsilon", "success (95 %)", "L2", "paper", "worst target", "classifier (accuracy)", "minutes")
    runs = _runs()
    rows = [
        [
            ", ".join(filter(None, (link(runs[name]), epsilon_text(runs[name].config["epsilon"]), what))),
            rate_and_interval(runs[name].report, bold=True),
            f"{runs[name].report['mean_l2']:.2f}",
            _paper_cell(runs[name]),
            worst_target(runs[name].report),
            _classifier_cell(runs[name]),
            _minutes_cell(runs[name]),
        ]
        for name, what in MAIN_RUNS.items()
    ]
    return table(columns, rows)


def _minutes_cell(run: Run) -> str:
    return f"{minutes(run.epochs)} ({run.report['device'].removeprefix('CPU, ')})"


def _paper_cell(run: Run) -> str:
    paper = PAPER.get(run.data_set)
    if paper is None:
        return "-"
    low, high = run.report["success_interval"]
    return f"{paper:.0%}: {'reached' if low >= paper else 'not reached' if high < paper else 'level'}"


def readme_table() -> str:
    """Returns README's table: one run per row, beside the paper and PGD with 40 steps."""
    columns = (
        "data set",
        "classifier (accuracy)",
        "epsilon",
        "success (95 %)",
        "paper",
        "PGD-40",
        "ms/image (PGD's)",
        "minutes to train",
    )
    runs = _runs()
    rows = [
        [
            name.replace("_", ", "),
            _classifier_cell(runs[name]),
            epsilon_text(runs[name].config["epsilon"]),
            rate_and_interval(runs[name].report, bold=True),
            f"{PAPER[name]:.0%}" if name in PAPER else "-",
            *_cells_beside_pgd(runs[name]),
            _minutes_cell(runs[name]),
        ]
        for name in README_RUNS
    ]
    return table(columns, rows)


def _cells_beside_pgd(run: Run) -> list[str]:
    """Returns PGD's success and both attacks' times, from the run's comparison; dashes for what it has not."""
    file = run.folder / COMPARISON
    attacks = json.loads(file.read_text())["attacks"] if file.exists() else {}
    pgd, ours = attacks.get("pgd"), attacks.get("aigan")
    times = [rounded(attack["milliseconds_per_image"]) for attack in (ours, pgd) if attack]
    return [f"{pgd['success_rate']:.1%}" if pgd else "-", f"{times[0]} ({times[1]})" if len(times) == 2 else "-"]


def rounded(milliseconds: float) -> str:
    """Returns a time with as many digits as say something."""
    return f"{milliseconds:.0f}" if milliseconds >= 10 else f"{milliseconds:.1f}"


def readme_output() -> str:
    """Returns what `python train.py` printed of the run on the digits."""
    return f"```\n{success_table(_runs()['digits'].report)}\n```\n"


# Of runs beside each other


def stages_table() -> str:
    """Returns success and L2 of each run at the end of stage 1, which its control shares, and at the end of both."""
    columns = ("run", "attacker", "success", "L2", "L2 since stage 1", "s/epoch", "test success (95 %)")
    runs, rows = _runs(), []
    for name, control_name in STAGES.items():
        run, control = runs[name], runs[control_name]
        shared = len(run.of_stage(1))
        begun = _validation(run.epochs[shared - 1])
        for ended, attacker in ((run, "removed"), (control, "stays")):
            last = _validation(ended.epochs[-1])
            seconds = statistics.median(float(epoch["seconds"]) for epoch in ended.epochs[shared:])
            rows.append(
                [
                    link(ended),
                    attacker,
                    f"{begun[0]:.1%} to {last[0]:.1%}",
                    f"{begun[1]:.2f} to {last[1]:.2f}",
                    f"{last[1] / begun[1] - 1:+.0%}",
                    f"{seconds:.0f}",
                    rate_and_interval(ended.report),
                ]
            )
    return table(columns, rows)


def _validation(epoch: Mapping[str, str], attack: str = "targeted") -> tuple[float, float]:
    """Returns success and mean L2 of an epoch's validation attacks."""
    return float(epoch[f"val_{attack}_success_rate"]), float(epoch["val_perturbation_l2"])


def terms_table() -> str:
    """Returns what is left of success and L2 without a term of the objective, mean and spread over seeds."""
    columns = ("data set", "objective", "success", "L2", "worst target", "seeds")
    runs, rows = _runs(), []
    for data_set, objectives in TERMS.items():
        for objective, names in objectives.items():
            reports = [runs[name].report for name in names]
            rows.append(
                [
                    data_set,
                    objective,
                    _mean_and_spread([report["success_rate"] for report in reports], "{:.2%}"),
                    _mean_and_spread([report["mean_l2"] for report in reports], "{:.2f}"),
                    _mean_and_spread([report["worst_target_success_rate"] for report in reports], "{:.1%}"),
                    str(len(names)),
                ]
            )
            data_set = ""
    return table(columns, rows)


def _mean_and_spread(values: Sequence[float], form: str) -> str:
    mean = form.format(statistics.mean(values))
    lowest, highest = (form.format(value).removesuffix("%") for value in (min(values), max(values)))
    return f"{mean} ({lowest} to {highest})" if len(values) > 1 else mean


def epsilon_table() -> str:
    """Returns each generator's success at eighths of its largest epsilon, and that of the run for this one alone."""
    runs, rows = _runs(), []
    for name, alone in EVERY_EPSILON.items():
        run = runs[name]
        points = [f"{100 * point['success_rate']:.1f}" for point in run.report["success_by_epsilon"][:-1]]
        whole = [f"{100 * each.report['success_rate']:.2f}" for each in (run, runs[alone])]
        rows.append([f"{run.data_set}, seed {run.config['seed']}", *points, *whole])
    return table(("data set, seed", *(f"{k}/8" for k in range(1, 9)), "8/8 alone"), rows)


# Commands


def commands_table() -> str:
    """Returns the command of each current run, of one row for all its seeds."""
    columns = ("run", "version", "seeds", "command")
    runs = _runs()
    rows = []
    for name, run in runs.items():
        if run.config["seed"]:
            continue
        seeds = [run, *(runs[other] for other in (f"{name}_seed{seed}" for seed in range(1, 10)) if other in runs)]
        is_recipe_0_1 = set(FLAGS_0_1[:-1]) <= set(flags(run.config))
        given = command(run.config, run.data_set, FLAGS_0_1 if is_recipe_0_1 else ())
        numbers = ", ".join(str(each.config["seed"]) for each in seeds)
        rows.append([f"[{name}]({name})", "0.2" if "format" in run.config else "0.1", numbers, f"`{given}`"])
    return table(columns, rows)


def presets_0_1() -> str:
    """Returns what CIFAR's rows of version 0.1 leave out, as a block."""
    return f"```\n{' '.join(FLAGS_0_1)}\n```\n"


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
    ends = {"stage1": run.of_stage(1)[-1:], "last_epoch": run.epochs[-1:]}
    validation = {
        f"{end}_validation_{key}": f"{value:.4f}"
        for end, epochs in ends.items()
        for epoch in epochs
        for key, value in zip(("success", "l2"), _validation(epoch, report["attack"]), strict=True)
    }
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
        **validation,
        "commit": config["commit"],
        "command": command(config, run.name),
        "superseded_by": superseding,
    }
