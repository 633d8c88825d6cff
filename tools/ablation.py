"""Reads docs/results/ablation.json, which benchmarks/ablation.py wrote: its table, and what one change was worth."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence

from tools.markdown import table
from tools.runs import RESULTS

STUDY = RESULTS / "ablation.json"
BASE = "the preset"
# The rows of docs/results.md, of those that the study has. benchmarks/ablation.py has more.
SHOWN = (
    BASE,
    "the preset of version 0.1",
    "no stage 1",
    "stage 1 to the end",
    "no discriminator",
    "no hinge",
    "uniform targets",
    "no class maps",
    "tanh for the projection",
    "projected descent's gradient",
    "Adam throughout",
)

Rows = Mapping[str, Mapping[str, Mapping]]  # change to seed to what was measured


def study_table(rows: Rows, names: Iterable[str] = ()) -> str:
    """Returns a study as a Markdown table, best first; `names` are the rows to show, all if there are none.

    A number is bold if its seeds lie all above, or all below, those of the base.
    """
    columns = ("change", "success", "L2", "spread of success", "worst target", "steps 1 + 2", "seeds")
    shown = {name: rows[name] for name in names or rows if name in rows}
    lines = []
    for name, seeds in sorted(shown.items(), key=lambda item: -statistics.mean(_values(item[1], "success_rate"))):
        successes = _values(seeds, "success_rate")
        steps = next(iter(seeds.values()))["steps"]
        lines.append(
            (
                name,
                _mean(rows, name, "success_rate", "{:.1%}"),
                _mean(rows, name, "mean_l2", "{:.2f}"),
                f"{min(successes):.1%} to {max(successes):.1%}" if len(seeds) > 1 else "-",
                _mean(rows, name, "worst_target_success_rate", "{:.1%}"),
                f"{steps.get('1', 0)} + {steps.get('2', 0)}",
                str(len(seeds)),
            )
        )
    return table(columns, lines)


def ablation_table() -> str:
    """Returns the ablation of docs/results.md."""
    return study_table(_committed(), SHOWN)


def effect(name: str) -> str:
    """Returns success and mean L2 of a row, bold as in the table; a dash if it was not run."""
    rows = _committed()
    return (
        f"{_mean(rows, name, 'success_rate', '{:.1%}')}, {_mean(rows, name, 'mean_l2', '{:.2f}')}"
        if name in rows
        else "-"
    )


def _committed() -> Rows:
    return json.loads(STUDY.read_text())["rows"]


def _values(seeds: Mapping[str, Mapping], key: str) -> Sequence[float]:
    return [run[key] for run in seeds.values()]


def _mean(rows: Rows, name: str, key: str, form: str) -> str:
    """Returns the mean over a row's seeds, bold if it stands out from the base."""
    values, base = _values(rows[name], key), _values(rows.get(BASE, rows[name]), key)
    apart = len(values) > 1 and len(base) > 1 and (min(values) > max(base) or max(values) < min(base))
    return f"**{form}**".format(statistics.mean(values)) if apart else form.format(statistics.mean(values))
