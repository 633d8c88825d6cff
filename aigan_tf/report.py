"""Tables and figures from what was measured."""

import io

import numpy as np
from matplotlib.figure import Figure  # not pyplot: it would touch the notebook's own plots


def picture_grid(
    images: np.ndarray,
    adversarial_images: np.ndarray,
    epsilon: float,
    titles: list[str],
    heading: str,
) -> bytes:
    """Draws clean images, what was added to them, and the result, one column an image.

    The middle row shows no change as mid-grey and a change of `epsilon` as black or white.

    Args:
        images: float32 `(columns, height, width, channels)` in `[0, 1]`.
        adversarial_images: float32, same shape, in `[0, 1]`.
        epsilon: float, L-infinity budget as a fraction of the pixel range.
        titles: one caption a column, set below it.
        heading: one line above the grid.

    Returns:
        A PNG file.
    """
    magnified = 0.5 + (adversarial_images - images) / (2 * epsilon)
    rows = (("clean", images), ("perturbation,\nmagnified", magnified), ("adversarial", adversarial_images))
    columns = len(images)
    figure = Figure(figsize=(1.1 * columns + 1.1, 4.3), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row_axes, (label, pictures) in zip(axes, rows, strict=True):
        for axis, picture in zip(row_axes, pictures, strict=True):
            axis.imshow(np.clip(picture, 0, 1).squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
        row_axes[0].set_ylabel(label, fontsize=10)
    for axis, title in zip(axes[-1], titles, strict=True):
        axis.set_xlabel(title, fontsize=9)
    figure.suptitle(heading, fontsize=11)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()


def success_table(result: dict) -> str:
    """Returns what `evaluate_attack` measured as a text table for the terminal."""
    kind = result["attack"]
    lines = [
        f"{result['split']} split: {result['num_examples']} images, of which the classifier gets "
        f"{result['num_correct']} right ({result['clean_accuracy']:.2%}); only these are attacked.",
        f"{kind} attack, epsilon {result['epsilon']:.4g}, {result['num_attacks']} attacks; pictures quantised to 8 bits:",
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
    """Returns the success rate at each budget of one generator as a text table for the terminal."""
    lines = [f"one generator at smaller budgets, {points[0]['num_attacks']} attacks each:"]
    lines += [
        f"  epsilon {point['epsilon']:.4f}  success rate {point['success_rate']:7.2%}  mean L2 {point['mean_l2']:.3f}"
        for point in points
    ]
    return "\n".join(lines)


def comparison_table(result: dict) -> str:
    """Returns what `compare` measured as a text table for the terminal, one attack a line."""
    header = ("attack", "clean", "success (95 %)", "worst target", "untargeted", "L2", "Linf", "SSIM", "ms/image", "n")
    lines = [header]
    for name, row in result["attacks"].items():
        low, high = row["success_interval"]
        worst = f"{row['worst_target_success_rate']:.1%} {row['worst_target']}" if "worst_target" in row else "-"
        lines.append(
            (
                name,
                f"{row['clean_accuracy']:.2%}",
                f"{row['success_rate']:.1%} ({low:.1%} - {high:.1%})",
                worst,
                f"{row['untargeted_success_rate']:.1%}",
                f"{row['mean_l2']:.3f}",
                f"{row['max_linf']:.4f}",
                f"{row['mean_ssim']:.3f}",
                f"{row['milliseconds_per_image']:.2f}",
                f"{row['num_attacks']}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    if result.get("images_until_training_is_paid_for"):
        table.append(
            f"Training the generator ({result['generator_training_seconds']:.0f} s) is paid for after "
            f"{result['images_until_training_is_paid_for']:,} images, against pgd on this device."
        )
    return "\n".join(table)
