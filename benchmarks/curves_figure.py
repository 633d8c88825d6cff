"""Draws success against training time over the epochs of runs: how far one comes in how many minutes.

    python benchmarks/curves_figure.py docs/images/curves.svg docs/results/cifar10 docs/results/cifar100

All is of the validation split, as every epoch measured it; the time is that of the generator's epochs. The axis of
success is logit, which shows 97 and 99 per cent as far apart as 50 and 75.
"""

import json
import pathlib
import sys

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from stages_figure import save  # before the package: it puts the checkout on the path

from aigan_tf.files import read_csv

TICKS = (0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)


def curve(folder: pathlib.Path) -> tuple[list[float], list[float]]:
    """Returns the minutes since the first epoch began, and the share of attacks that reach their target."""
    minutes, success, seconds = [], [], 0.0
    for epoch in read_csv(folder / "metrics.csv"):
        seconds += float(epoch["seconds"])
        minutes.append(seconds / 60)
        success.append(float(epoch["val_targeted_success_rate"]))
    return minutes, success


def label(folder: pathlib.Path) -> str:
    """Returns the run's name, the classifier under attack with its accuracy, and the device."""
    config, report = (json.loads((folder / name).read_text()) for name in ("config.json", "report.json"))
    classifier = pathlib.Path(config["classifier"]).stem
    return f"{folder.name}: {classifier} ({report['clean_accuracy']:.1%}), {report['device']}"


def main(output: str, *runs: str) -> None:
    figure = Figure(figsize=(7.5, 5.2), layout="constrained")
    axis = figure.subplots()
    for folder in map(pathlib.Path, runs):
        minutes, success = curve(folder)
        axis.plot(minutes, success, "-", linewidth=1.6, label=f"{label(folder)}; ends at {success[-1]:.1%}")
    axis.set_yscale("logit")
    axis.yaxis.set_major_locator(FixedLocator(TICKS))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}"))
    axis.set_xlim(left=0)
    axis.set_xlabel("minutes of the generator's training")
    axis.set_ylabel("targeted success, % of validation attacks")
    axis.grid(alpha=0.3)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize=9)
    save(figure, output)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(f"error: {len(sys.argv) - 1} arguments; expected a file to write and one or more folders of runs")
    main(*sys.argv[1:])
