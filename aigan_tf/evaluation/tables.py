"""Tables of what was measured, as text for the terminal."""

from collections.abc import Mapping, Sequence


def success_table(result: dict) -> str:
    """Returns what `evaluate_attack` measured as a text table for the terminal."""
    kind = result["attack"]
    lines = [
        f"{result['split']} split: {result['num_examples']} images, of which the classifier gets "
        f"{result['num_correct']} right ({result['clean_accuracy']:.2%}); only these are attacked.",
        f"{kind} attack, epsilon {result['epsilon']:.4g}, {result['num_attacks']} attacks, seed {result['seed']}, on {result['device']}; pictures "
        "quantised to 8 bits:",
        f"  {kind} success rate    {result['success_rate']:.2%}  (before quantising {result['success_rate_float']:.2%})",
    ]
    if kind == "targeted":
        lines += [
            f"  worst target class       {result['worst_target']}: {result['worst_target_success_rate']:.2%}",
            f"  untargeted success rate  {result['untargeted_success_rate']:.2%}",
        ]
    lines.append(
        f"  perturbation             mean L2 {result['mean_l2']:.3f}, largest change {result['max_linf']:.4f} "
        f"({result['max_linf'] * 255:.0f} of 255 grey levels)"
    )
    return "\n".join(lines)


def epsilon_table(points: list[dict]) -> str:
    """Returns the success rate at each budget of one attack as a text table for the terminal."""
    lines = [f"success at smaller budgets, {points[0]['num_attacks']} attacks each:"]
    lines += [
        f"  epsilon {point['epsilon']:.4f}  success rate {point['success_rate']:7.2%}  mean L2 {point['mean_l2']:.3f}"
        for point in points
    ]
    return "\n".join(lines)


def comparison_rows(attacks: Mapping[str, Mapping]) -> list[tuple[str, ...]]:
    """Returns what `evaluate` measured as cells, one attack a row after a header."""
    rows = [
        (
            "attack",
            "clean",
            "success (95 %)",
            "unrounded",
            "worst target",
            "untargeted",
            "L2",
            "Linf",
            "SSIM",
            "ms/image",
            "n",
        )
    ]
    for name, row in attacks.items():
        low, high = row["success_interval"]
        rows.append(
            (
                name,
                f"{row['clean_accuracy']:.2%}",
                f"{row['success_rate']:.1%} ({low:.1%} - {high:.1%})",
                f"{row['success_rate_float']:.1%}",
                f"{row['worst_target_success_rate']:.1%} {row['worst_target']}" if "worst_target" in row else "-",
                f"{row['untargeted_success_rate']:.1%}",
                f"{row['mean_l2']:.3f}",
                f"{row['max_linf']:.4f}",
                f"{row['mean_ssim']:.3f}",
                f"{row['milliseconds_per_image']:.2f}",
                f"{row['num_attacks']}",
            )
        )
    return rows


def class_rows(attacks: Mapping[str, Mapping]) -> list[tuple[str, ...]]:
    """Returns success by class as cells, one class a row, one attack a column, after a header."""
    by_class = {name: row["success_by_class"] for name, row in attacks.items()}
    classes = next(iter(by_class.values()))
    kind = "target class" if next(iter(attacks.values()))["attack"] == "targeted" else "true class"

    def cell(rate):
        return "-" if rate is None else f"{rate:.1%}"

    return [(kind, *by_class)] + [(name, *(cell(rates[name]) for rates in by_class.values())) for name in classes]


def defence_rows(rows: Mapping[str, Mapping]) -> list[tuple[str, ...]]:
    """Returns what `compare_defences` measured as cells, one work folder a row after a header."""
    attacks = list(next(iter(rows.values()))["success_rate"])
    header = ("work folder", "classifier", "defense", "clean accuracy", "under fgsm", "under pgd")
    cells = [(*header, *(f"{name}: success" for name in attacks))]
    for path, row in rows.items():
        robust = row["robust_accuracy"]
        accuracies = (f"{value:.2%}" for value in (row["clean_accuracy"], robust["fgsm"], robust["pgd"]))
        successes = (f"{row['success_rate'][name]:.1%}" for name in attacks)
        cells.append((path, row["classifier"], row["defense"], *accuracies, *successes))
    return cells


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows of cells as text in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def black_box_note(result: Mapping) -> str | None:
    """Returns what the generator's training knew of a black box, as a sentence; None where it knew everything."""
    if not result["black_box"]:
        return None
    return (
        f"The generator was trained against a local copy ({result['black_box']}), which learned the classifier from its "
        f"answers to {result['queries']:,} images; foolbox's attacks follow the classifier's own gradients."
    )


def paid_for(result: Mapping) -> str | None:
    """Returns after how many images training has paid for itself, as a sentence; None where that is not known."""
    if "images_until_training_is_paid_for" not in result:
        return None
    if result["images_until_training_is_paid_for"] is None:
        return "Training the generator is never paid for: pgd takes no longer an image."
    device = result["generator_training_device"] or "where it was trained"
    return (
        f"Training the generator ({result['generator_training_seconds']:.0f} s: {device}) is paid for after "
        f"{result['images_until_training_is_paid_for']:,} images, against pgd as timed here ({result['device']})."
    )


def beside_advgan(result: Mapping) -> str | None:
    """Returns how the one generator does on AdvGAN's targets alone, as a sentence; None where there is no AdvGAN."""
    means = result.get("mean_success_on_advgan_targets")
    if not means:
        return None
    rates = " and ".join(f"{name} {rate:.1%}" for name, rate in means.items())
    return f"On the targets that AdvGAN was trained for, the mean of their rates: {rates}."
