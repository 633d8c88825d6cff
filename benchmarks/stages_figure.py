"""Draws success against L2 over the epochs of a run, and of the control that kept the attacker.

    python benchmarks/stages_figure.py docs/results/mnist_B docs/results/mnist_B_control docs/images/stages_mnist.svg

Both are of the validation split, as every epoch measured them. The control is a run of the same settings whose
epochs were all stage 1.
"""

import json
import pathlib
import sys

from matplotlib import rc_context
from matplotlib.figure import Figure
from results_table import ROOT  # noqa: F401 before the package: it puts the checkout on the path

from aigan_tf.files import read_csv


def curve(folder: pathlib.Path, stage: str) -> tuple[list[float], list[float]]:
    """Returns mean L2 and success in per cent of a stage's epochs."""
    epochs = [epoch for epoch in read_csv(folder / "metrics.csv") if epoch["stage"] == stage]
    return (
        [float(epoch["val_perturbation_l2"]) for epoch in epochs],
        [100 * float(epoch["val_targeted_success_rate"]) for epoch in epochs],
    )


def save(figure: Figure, output: str) -> None:
    """Writes the figure; the same runs write the same file (an SVG else has the time and random names in it)."""
    pathlib.Path(output).parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "aigan_tf"}):
        figure.savefig(output, metadata={"Date": None} if output.endswith(".svg") else None)


def main(run: str, control: str, output: str) -> None:
    run, control = pathlib.Path(run), pathlib.Path(control)
    config = json.loads((run / "config.json").read_text())
    stage1, stage2, kept = curve(run, "1"), curve(run, "2"), curve(control, "1")
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axis = figure.subplots()
    shared = len(stage1[0])
    if [values[:shared] for values in kept] != list(stage1):
        sys.exit(f"error: {control} does not begin as {run}; expected the same settings and seed up to stage 2")
    parted = [values[shared - 1 :] for values in kept]
    joined = [[*before[-1:], *after] for before, after in zip(stage1, stage2, strict=True)]
    for (l2, success), line, color, what in (
        (stage1, "o-", "tab:gray", "stage 1, with the attacker"),
        (joined, "o-", "tab:blue", "stage 2, without it"),
        (parted, "s--", "tab:orange", "control: the attacker stays"),
    ):
        label = f"{what}; ends at {success[-1]:.1f} %, {l2[-1]:.2f}"
        axis.plot(l2, success, line, color=color, markersize=4, label=label)
        axis.plot(l2[-1], success[-1], line[0], color=color, markersize=9)
    axis.set_xlabel("mean L2 of the perturbations (pixels in [0, 1])")
    axis.set_ylabel("targeted success, %")
    axis.set_title(
        f"{config['dataset']}, epsilon {config['epsilon']:.3g}: one point an epoch, validation images", fontsize=11
    )
    axis.margins(x=0.08, y=0.14)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=9)
    save(figure, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
