"""Tables of what was measured, as text for the terminal and as cells for pages."""

import dataclasses
import pathlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from aigan_tf.errors import shown_value
from aigan_tf.flags import WIDTH

MAX_CLASS_ROWS = 100  # of a page's table by class
TERMINAL = ("success (95 %)", "worst target", "L2", "ms/image", "n")  # the columns that a terminal shows, if they fit


def success_table(result: Mapping) -> str:
    """Returns one attack's result as text.

    Args:
        result: `AttackResult.to_dict()` and `device`.
    """
    kind = result["attack"]
    right = "without labels: the classifier's answers stand in for them"
    if "clean_accuracy" in result:
        right = f"{result['num_correct']:,} answered correctly ({result['clean_accuracy']:.2%}) and attacked"
    rate, unrounded = result["success_rate"], result["success_rate_float"]
    lines = [
        f"{result['split']} split: {result['num_examples']:,} images, {right}.",
        f"{kind} attacks: {attacks_text(result)} within epsilon {shown_value(result['epsilon'])}, seed {result['seed']}, "
        f"{result['device']}",
        f"  {kind + ' success rate':25}{rate:.2%} after rounding to 8 bits, {unrounded:.2%} before",
    ]
    if kind == "targeted":
        worst = f"{result['worst_target_success_rate']:.2%} ({class_text(result['worst_target'])})"
        lines += [
            f"  {'worst target':25}{worst}",
            f"  {'untargeted success rate':25}{result['untargeted_success_rate']:.2%}",
        ]
    largest = _grey_levels(result["max_linf"])
    lines.append(f"  {'perturbation':25}mean L2 {result['mean_l2']:.3f}, largest change {largest}")
    return "\n".join(lines)


def attacks_text(result: Mapping) -> str:
    """Returns the number of attacks, and of how many they were drawn, if they were."""
    drawn = f" drawn of {result['drawn_from']:,}" if "drawn_from" in result else ""
    return f"{result['num_attacks']:,}{drawn}"


def _grey_levels(change):
    """A change of an 8-bit image: a whole number of 255ths, up to the rounding of float32."""
    return f"{255 * change:.0f}/255"


def epsilon_table(points: Sequence[Mapping]) -> str:
    """Returns the success rate of one attack at each budget as text; `points` are those of `curves.success_curve`."""
    rows = [
        (
            "  epsilon",
            shown_value(point["epsilon"]),
            f"success rate {point['success_rate']:7.2%}  mean L2 {point['mean_l2']:.3f}",
        )
        for point in points
    ]
    return f"success at smaller budgets, {points[0]['num_attacks']} attacks each:\n{aligned(rows)}"


def comparison_text(result: Mapping) -> str:
    """Returns what `evaluate_workdir` prints at its end; `result` is its report.json."""
    lines = [_terminal_table(result["attacks"])]
    if result["transfer"]:
        lines.append("The same generator's images, shown to classifiers it was not trained on:")
        lines.append(_terminal_table(without_folders(result["transfer"])))
    lines += [f"WARNING: {warning}" for warning in result["warnings"]]
    return "\n".join([*lines, *notes(result)])


def _terminal_table(attacks):
    """Returns a comparison in as many columns of `TERMINAL` as fit, at least one; report.json has all."""
    short = {name.replace(", moved into epsilon", " in epsilon"): row for name, row in attacks.items()}
    columns = [column for column in filled_columns(attacks) if column.title in TERMINAL]
    while True:
        text = aligned(comparison_rows(short, columns))
        if len(columns) == 1 or max(map(display_width, text.splitlines())) <= WIDTH:
            return text
        columns.pop()


def without_folders(results: Mapping[str, Mapping]) -> Mapping[str, Mapping]:
    """Returns results by the names of files or folders, or as they are if two have the same."""
    short = {pathlib.PurePath(name).name: row for name, row in results.items()}
    return short if len(short) == len(results) else results


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a comparison.

    Args:
        title: its header.
        text: what a cell shows, from `AttackResult.to_dict()`.
        value: key of the number that is compared; None if no value is better than another.
        best: `max` or `min`.
    """

    title: str
    text: Callable[[Mapping], str]
    value: str | None = None
    best: Callable = max


def _success(row):
    low, high = row["success_interval"]
    return f"{row['success_rate']:.1%} ({low:.1%} - {high:.1%})"


def _worst_target(row):
    return (
        f"{row['worst_target_success_rate']:.1%} ({class_text(row['worst_target'])})" if "worst_target" in row else "-"
    )


COLUMNS = (
    Column("clean", lambda row: f"{row['clean_accuracy']:.2%}" if "clean_accuracy" in row else "-"),
    Column("success (95 %)", _success, "success_rate"),
    Column("unrounded", lambda row: f"{row['success_rate_float']:.1%}", "success_rate_float"),
    Column("worst target", _worst_target, "worst_target_success_rate"),
    Column("untargeted", lambda row: f"{row['untargeted_success_rate']:.1%}", "untargeted_success_rate"),
    Column("L2", lambda row: f"{row['mean_l2']:.3f}", "mean_l2", min),
    Column("Linf", lambda row: _grey_levels(row["max_linf"]), "max_linf", min),
    Column("SSIM", lambda row: f"{row['mean_ssim']:.3f}", "mean_ssim"),
    Column("ms/image", lambda row: f"{row['milliseconds_per_image']:.2f}", "milliseconds_per_image", min),
    Column("n", lambda row: f"{row['num_attacks']}"),
)


def class_text(name: str) -> str:
    """Returns the name of a class so that it cannot be taken for a number that was measured."""
    return f"class {name}" if name.isdigit() else name


def filled_columns(attacks: Mapping[str, Mapping]) -> list[Column]:
    """Returns the columns in which a comparison has anything: an untargeted attack has no worst target."""
    return [column for column in COLUMNS if any(column.text(row) != "-" for row in attacks.values())]


def comparison_rows(attacks: Mapping[str, Mapping], columns: Sequence[Column] = COLUMNS) -> list[tuple[str, ...]]:
    """Returns results as cells, one row per attack after a header.

    Args:
        attacks: name to `AttackResult.to_dict()`.
        columns: some of `COLUMNS`.
    """
    header = ("attack", *(column.title for column in columns))
    return [header] + [(name, *(column.text(row) for column in columns)) for name, row in attacks.items()]


def exceeds_epsilon(row: Mapping) -> bool:
    """Whether an attack changed a pixel by more than its budget."""
    return row["max_linf_float"] > row["epsilon"] + 1e-6


def best_cells(attacks: Mapping[str, Mapping]) -> set[tuple[str, str]]:
    """Returns the best cells of a comparison, as attack and title of the column.

    Attacks that exceed epsilon or never succeed do not compete; a column in which all are equal has no best.
    """
    fair = {name: row for name, row in attacks.items() if not exceeds_epsilon(row) and row["success_rate"] > 0}
    found = set()
    for column in COLUMNS:
        competing = {name: row[column.value] for name, row in fair.items() if column.value in row}
        if column.value and len(competing) > 1:
            # As shown, so that of two equal cells not one alone is marked.
            shown = {name: column.text(fair[name]).split(" ")[0] for name in competing}
            best = shown[column.best(competing, key=competing.get)]
            winners = {name for name in shown if shown[name] == best}
            found |= {(name, column.title) for name in winners} if winners != shown.keys() else set()
    return found


def class_rows(attacks: Mapping[str, Mapping]) -> list[tuple[str, ...]]:
    """Returns success rates by class as cells, one row per class and one column per attack, after a header.

    Of more than `MAX_CLASS_ROWS` classes those on which the first attack succeeds least.
    """
    by_class = {name: row["success_by_class"] for name, row in attacks.items()}
    first = next(iter(by_class.values()))
    classes = list(first)
    if len(classes) > MAX_CLASS_ROWS:
        attacked = [name for name in classes if first[name] is not None]
        classes = sorted(attacked, key=lambda name: first[name])[:MAX_CLASS_ROWS]
    kind = "target class" if next(iter(attacks.values()))["attack"] == "targeted" else "true class"

    def cell(rate):
        return "-" if rate is None else f"{rate:.1%}"

    return [(kind, *by_class)] + [(name, *(cell(rates[name]) for rates in by_class.values())) for name in classes]


def defence_rows(rows: Mapping[str, Mapping]) -> list[tuple[str, ...]]:
    """Returns what `compare_defences` measured as cells, one row per run after a header."""
    attacks = list(next(iter(rows.values()))["success_rate"])
    header = ("work folder", "classifier", "defense", "clean accuracy", "under fgsm", "under pgd")
    cells = [(*header, *(f"{name}: success" for name in attacks))]
    for path, row in rows.items():
        robust = row["robust_accuracy"]
        accuracies = (f"{value:.2%}" for value in (row["clean_accuracy"], robust["fgsm"], robust["pgd"]))
        successes = (f"{row['success_rate'][name]:.1%}" for name in attacks)
        cells.append((path, row["classifier"], row["defense"], *accuracies, *successes))
    return cells


def defence_text(runs: Mapping[str, Mapping]) -> str:
    """Returns what `compare_defences` prints: accuracy, clean and under attack, and the success of the attacks.

    Args:
        runs: name of each run to what defenses.json holds.
    """
    (header, *rows) = defence_rows(runs)
    attacks = [title.removesuffix(": success") for title in header[6:]]
    groups = ("", "", "accuracy", "", "", "success", *[""] * (len(attacks) - 1))
    titles = ("run", "defense", "clean", "fgsm", "pgd", *attacks)
    return aligned([groups, titles, *((run, *cells) for run, _, *cells in rows)])


def best_defences(rows: Mapping[str, Mapping]) -> set[tuple[str, str]]:
    """Returns the highest accuracies of `defence_rows`, as work folder and title of the column."""
    accuracies = {
        "clean accuracy": {path: row["clean_accuracy"] for path, row in rows.items()},
        "under fgsm": {path: row["robust_accuracy"]["fgsm"] for path, row in rows.items()},
        "under pgd": {path: row["robust_accuracy"]["pgd"] for path, row in rows.items()},
    }
    return {
        (max(shares, key=shares.get), title) for title, shares in accuracies.items() if len(set(shares.values())) > 1
    }


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows of cells as text in columns; a wide letter takes two places of a terminal."""
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell + " " * (width - display_width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def display_width(text: str) -> int:
    """Returns how many places of a terminal a text takes."""
    places = {"W": 2, "F": 2}
    return sum(
        places.get(unicodedata.east_asian_width(letter), 1) for letter in text if not unicodedata.combining(letter)
    )


def notes(result: Mapping) -> list[str]:
    """Returns sentences about a comparison: black box, training time, and AdvGAN, if they apply.

    Args:
        result: report.json of `evaluate_workdir`.
    """
    found = []
    if "labels" in result:
        found.append("The images have no labels: the classifier's own answers stand in for them.")
    if result["black_box"]:
        found.append(
            f"The generator was trained against a surrogate model ({result['black_box']}), which learned the classifier from "
            f"its answers to {result['queries']:,} images; foolbox's attacks follow the classifier's own gradients."
        )
    if "aigan" in result["attacks"]:
        device = f" ({result['generator_training_device']})" if result["generator_training_device"] else ""
        found.append(f"Training the generator took {result['generator_training_seconds']:,.0f} s{device}.")
    if means := result.get("mean_success_on_advgan_targets"):
        rates = " and ".join(f"{name} {rate:.1%}" for name, rate in means.items())
        found.append(f"Mean success rate on the targets that AdvGAN was trained for: {rates}.")
    return found
