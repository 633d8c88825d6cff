"""Draws the figures of docs/results.md from the runs in docs/results, and README's pictures.

    python tools/figures.py  # all of them, into docs/images
    python tools/figures.py curves docs/images/curves.svg docs/results/cifar10 docs/results/cifar100
    python tools/figures.py epsilon docs/images/epsilon.svg docs/results/digits_variable_epsilon
    python tools/figures.py stages docs/images/stages.svg docs/results/mnist_B docs/results/mnist_B_control
    python tools/figures.py recipes docs/images/recipes.svg docs/results/archive/cifar10_0_1 docs/results/cifar10
    python tools/figures.py pictures docs/images/cifar10.png pretrained/cifar10

curves: success against minutes of training, one line per run, on a logit axis, which shows 97 and 99 % as far apart as
50 and 75 %. epsilon: success against epsilon, one line per generator trained with --variable_epsilon. stages: success
against L2 of each epoch, a panel for each run and the control after it, which keeps the attacker. recipes: success against
minutes of training steps as one machine takes them, which benchmarks/run_steps.py has timed for each of the runs. Curves,
stages and recipes are measured on the validation split after every epoch, epsilon on the test split. pictures: test images of some classes, attacked by a
generator of pretrained/.
"""

import argparse
import itertools
import json
import pathlib
import sys
from collections.abc import Mapping

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from aigan_tf.evaluation.figures import LINES, PALETTE
from tools.run_tables import STAGES
from tools.runs import RESULTS, ROOT, Run, classifier_name, epsilon_text, read_run

IMAGES = ROOT / "docs" / "images"
STEPS = RESULTS / "performance" / "run_steps.json"  # by benchmarks/run_steps.py
TICKS = (0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)

# The figures of docs/images that are drawn here: kind, and the runs in docs/results.
COMMITTED = {
    "curves.svg": ("curves", ("mnist", "mnist_A", "mnist_B", "cifar10", "cifar100")),
    "epsilon.svg": (
        "epsilon",
        (
            "digits_variable_epsilon",
            "digits_variable_epsilon_seed1",
            "digits_variable_epsilon_seed2",
            "cifar10_variable_epsilon",
        ),
    ),
    "stages.svg": ("stages", [name for pair in STAGES.items() for name in pair]),
}


def curves(*runs: Run) -> Figure:
    """Draws success against minutes since training began."""
    figure = Figure(figsize=(7.5, 5.2), layout="constrained")
    axis = figure.subplots()
    axis.set_prop_cycle(LINES)
    for run in runs:
        minutes, success = _over_time(run)
        classifier = f"{classifier_name(run.config['classifier'])} ({run.report['clean_accuracy']:.1%})"
        label = f"{run.name}: {classifier}, {run.report['device']}; ends at {success[-1]:.1%}"
        axis.plot(minutes, success, marker="", linewidth=1.6, label=label)
    _logit(axis)
    axis.set_xlabel("minutes of the generator's training")
    axis.set_ylabel("targeted success, % of validation attacks")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize=9)
    return figure


def _over_time(run: Run, step_seconds: Mapping[str, float] | None = None) -> tuple[list[float], list[float]]:
    """Returns minutes and success at the end of each epoch; given the time of a step of each stage, minutes of steps."""
    seconds = [
        run.config["steps_per_epoch"] * step_seconds[epoch["stage"]] if step_seconds else float(epoch["seconds"])
        for epoch in run.epochs
    ]
    minutes = [total / 60 for total in itertools.accumulate(seconds)]
    return minutes, [float(epoch["val_targeted_success_rate"]) for epoch in run.epochs]


def recipes(*runs: Run) -> Figure:
    """Draws the presets of two versions, each data set in a panel, against minutes of training steps on one machine."""
    steps = json.loads(STEPS.read_text())["runs"]
    data_sets = list(dict.fromkeys(run.data_set for run in runs))
    figure = Figure(figsize=(3.7 * len(data_sets) + 0.6, 3.7), layout="constrained")
    axes = figure.subplots(1, len(data_sets), squeeze=False)[0]
    for axis, data_set in zip(axes, data_sets, strict=True):
        axis.set_prop_cycle(LINES)
        for run in (run for run in runs if run.data_set == data_set):
            minutes, success = _over_time(run, steps[run.name])
            version = "0.2" if "format" in run.config else "0.1"
            axis.plot(minutes, success, marker="", linewidth=1.6, label=f"{version}: {success[-1]:.1%}")
        _logit(axis)
        axis.set_title(f"{data_set}, epsilon {epsilon_text(run.config['epsilon'])}", fontsize=11)
        axis.legend(title="version, and where it ends", loc="lower right", frameon=False)
    axes[0].set_ylabel("targeted success, % of validation attacks")
    figure.supxlabel("minutes of training steps on one machine", fontsize=10)
    return figure


def _logit(axis: Axes) -> None:
    """Sets a logit axis for success, and one from zero for the time."""
    axis.set_yscale("logit")
    axis.yaxis.set_major_locator(FixedLocator(TICKS))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}"))
    axis.set_xlim(left=0)
    axis.grid(alpha=0.3)


def epsilon(*runs: Run) -> Figure:
    """Draws success against epsilon, as a share of the largest budget."""
    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    axis = figure.subplots()
    axis.set_prop_cycle(LINES)
    for run in runs:
        points, largest = run.report.get("success_by_epsilon"), run.config["epsilon"]
        if not points:
            sys.exit(f"error: {run.folder} has no success by epsilon; expected a run with --variable_epsilon")
        budgets, rates = ([point[key] for point in points] for key in ("epsilon", "success_rate"))
        label = f"{run.data_set}, seed {run.config['seed']}: up to {epsilon_text(largest)}, {points[-1]['num_attacks']:,} attacks"
        axis.plot([budget / largest for budget in budgets], rates, markersize=4, label=label)
    axis.set_xlim(0, 1.03)
    axis.set_ylim(0, 1)
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.set_xlabel("epsilon, as a share of the largest in training")
    axis.set_ylabel("targeted success")
    axis.set_title("One generator at every epsilon, test images", fontsize=11)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=9)
    return figure


def stages(*runs: Run) -> Figure:
    """Draws both stages of runs, a panel each; after each run comes its control, which has no stage 2."""
    pairs = list(zip(runs[::2], runs[1::2], strict=True))
    figure = Figure(figsize=(3.2 * len(pairs) + 0.6, 3.7), layout="constrained")
    axes = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axis, (run, control) in zip(axes, pairs, strict=True):
        _draw_stages(axis, run, control)
    axes[0].set_ylabel("targeted success, %")
    figure.supxlabel("mean L2 of the perturbations, one point per epoch, validation images", fontsize=10)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _draw_stages(axis: Axes, run: Run, control: Run) -> None:
    stage1, stage2, kept = _over_l2(run, 1), _over_l2(run, 2), _over_l2(control, 1)
    shared = len(stage1[0])
    if [values[:shared] for values in kept] != stage1:
        sys.exit(f"error: {control.folder} does not begin as {run.folder}; expected the same settings up to stage 2")
    stage2 = [[*before[-1:], *after] for before, after in zip(stage1, stage2, strict=True)]
    kept = [values[shared - 1 :] for values in kept]
    for (l2, success), line, color, what in (
        (stage1, "^-", "0.4", "stage 1, with the attacker"),
        (stage2, "o-", PALETTE[0], "stage 2, without it"),
        (kept, "s--", PALETTE[1], "control: the attacker stays"),
    ):
        axis.plot(l2, success, line, color=color, markersize=4, label=what)
        axis.plot(l2[-1], success[-1], line[0], color=color, markersize=9)
    axis.set_title(f"{run.data_set}, epsilon {epsilon_text(run.config['epsilon'])}", fontsize=11)
    axis.locator_params(axis="x", nbins=5)
    axis.margins(x=0.08, y=0.1)
    axis.grid(alpha=0.3)


def _over_l2(run: Run, stage: int) -> list[list[float]]:
    """Returns mean L2, and success in per cent, of the epochs of a stage."""
    epochs = run.of_stage(stage)
    return [
        [float(epoch["val_perturbation_l2"]) for epoch in epochs],
        [100 * float(epoch["val_targeted_success_rate"]) for epoch in epochs],
    ]


KINDS = {"curves": curves, "epsilon": epsilon, "stages": stages, "recipes": recipes}


def pictures(folder: pathlib.Path) -> bytes:
    """Draws the first test image of each second class, attacked towards the next one, with the classifier's answers."""
    import aigan_tf  # noqa: F401 isort: skip (before TensorFlow: it sets oneDNN)
    import numpy as np
    from PIL import Image

    from aigan_tf.evaluation.figures import attack_grid
    from aigan_tf.exported import read_export_info
    from aigan_tf.photo_attack import PictureAttacker

    export = read_export_info(folder, "path")
    count = len(export.class_names)
    strip = np.asarray(Image.open(folder / "samples" / "test_images.png"))
    labels = np.arange(0, count, 2)
    attacked = PictureAttacker(export)(np.stack(np.split(strip, count, axis=1))[labels], (labels + 1) % count)
    clean = np.float32([each.clean for each in attacked]) / 255
    adversarial = np.float32([each.adversarial for each in attacked]) / 255
    captions = [
        f"{each.answer(each.clean_answers)}\n\u2192 {each.answer(each.adversarial_answers)}" for each in attacked
    ]
    epsilon = attacked[0].epsilon
    return attack_grid(clean, adversarial, epsilon, captions, f"epsilon {epsilon_text(epsilon)}")


def save(figure: Figure, output: pathlib.Path) -> None:
    """Writes a figure. An SVG holds neither the time nor random names, so that the same runs give the same file."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "aigan_tf"}):
        figure.savefig(output, metadata={"Date": None} if output.suffix == ".svg" else None)


def draw_committed(folder: pathlib.Path) -> None:
    """Draws all figures of `COMMITTED` into a folder."""
    for name, (kind, runs) in COMMITTED.items():
        save(KINDS[kind](*(read_run(RESULTS / run) for run in runs)), folder / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(
        dest="kind", metavar="KIND", help="see above; left out: all figures of docs/results.md"
    )
    for kind in (*KINDS, "pictures"):
        own = kinds.add_parser(kind)
        own.add_argument("output", type=pathlib.Path, help="file to write, .svg or .png")
        own.add_argument("run", type=pathlib.Path, nargs="+", help="folder of a run")
    given = parser.parse_args()
    if given.kind is None:
        draw_committed(IMAGES)
    elif given.kind == "pictures":
        given.output.write_bytes(pictures(*given.run))
    else:
        save(KINDS[given.kind](*map(read_run, given.run)), given.output)


if __name__ == "__main__":
    main()
