"""Draws success against epsilon, one line for each generator that was trained for every budget.

    python benchmarks/epsilon_figure.py docs/images/epsilon.svg docs/results/digits_variable_epsilon

All is of the test split, as each run's report holds it.
"""

import json
import pathlib
import sys

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from stages_figure import save


def main(output: str, *runs: str) -> None:
    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    axis = figure.subplots()
    for run in map(pathlib.Path, runs):
        config, report = (json.loads((run / name).read_text()) for name in ("config.json", "report.json"))
        if not report.get("success_by_epsilon"):
            sys.exit(f"error: {run} has no success by epsilon; expected a run with --variable_epsilon")
        points = report["success_by_epsilon"]
        axis.plot(
            [point["epsilon"] / config["epsilon"] for point in points],
            [point["success_rate"] for point in points],
            "o-",
            markersize=4,
            label=f"{config['dataset']}, seed {config['seed']}: up to {config['epsilon']:.3g}, "
            f"{points[-1]['num_attacks']:,} attacks",
        )
    axis.set_xlim(0, 1.03)
    axis.set_ylim(0, 1)
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.set_xlabel("epsilon, of the greatest that the generator was trained for")
    axis.set_ylabel("targeted success")
    axis.set_title("One generator at every epsilon, test images", fontsize=11)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=9)
    save(figure, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
