"""Figures of what was measured, drawn with matplotlib and returned as files in memory."""

import io
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure  # not pyplot: it would touch the notebook's own plots
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

NAMED_CLASSES = 20  # with more, their names do not fit below an axis
COLUMN = 1.1  # width of an image in a grid, in inches
CAPTION_LETTERS = 24  # per line; more would be too small to read
FONT_SIZE = 9

_plain = matplotlib.rc_context({"text.parse_math": False})  # a $ in the name of a class does not start a formula


def magnified(images: np.ndarray, adversarial_images: np.ndarray, epsilon: float) -> np.ndarray:
    """Returns perturbations as images: mid-grey for no change, black and white for a change of `epsilon`.

    Args:
        images, adversarial_images: float32 `(n, height, width, channels)` in `[0, 1]`.
        epsilon: float, L-infinity budget as a fraction of the pixel range.

    Returns:
        float32, the same shape.
    """
    return 0.5 + (adversarial_images - images) / (2 * epsilon)


@_plain
def picture_grid(rows: Mapping[str, np.ndarray], captions: Sequence[str], heading: str) -> bytes:
    """Draws images in rows, one column per caption.

    Args:
        rows: label of a row to its images, float32 `(columns, height, width, channels)`; pixels outside `[0, 1]` are
            clipped.
        captions: one below each column.
        heading: one line above the grid.

    Returns:
        A PNG file.
    """
    columns = len(captions)
    captions = [_wrapped(caption) for caption in captions]
    figure = Figure(figsize=(COLUMN * columns + 1.3, 1.2 * len(rows) + 0.8), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row_axes, (label, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(row_axes, images, strict=True):
            axis.imshow(np.clip(image, 0, 1).squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
        row_axes[0].set_ylabel(label, fontsize=FONT_SIZE)
    fontsize = FONT_SIZE * min(1.0, 72 * COLUMN / _widest(captions))
    for axis, caption in zip(axes[-1], captions, strict=True):
        axis.set_xlabel(caption, fontsize=fontsize)
    figure.suptitle(heading, fontsize=11)
    return _file(figure, "png")


@_plain
def matrix(success: Sequence[Sequence[float | None]], class_names: Sequence[str], heading: str) -> bytes:
    """Draws targeted success by true class and target class as a heat map, in per cent.

    Args:
        success: a row per true class and a column per target, rates or None.
        class_names: name of each class.
        heading: one line above.

    Returns:
        An SVG file.
    """
    values = np.array([[np.nan if cell is None else 100 * cell for cell in row] for row in success])
    side = 0.55 * len(class_names) + 2
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(values, cmap="viridis", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            # Rounded down, so that 99.6 is not shown as certain.
            axis.text(column, row, f"{np.floor(value):.0f}", ha="center", va="center", fontsize=8,
                      color="white" if value < 60 else "black")  # fmt: skip
    axis.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right")
    axis.set_yticks(range(len(class_names)), class_names)
    axis.set_xlabel("target class")
    axis.set_ylabel("true class")
    axis.set_title(heading, fontsize=11)
    figure.colorbar(image, label="targeted success, % (rounded down)", shrink=0.8)
    return _file(figure, "svg")


@_plain
def success_by_target(rates: Mapping[str, Mapping[str, float | None]], heading: str) -> bytes:
    """Draws success by target class, one colour per attack: bars, or for more than 20 classes the sorted rates.

    Args:
        rates: attack to target class to rate; None if it was not attacked.
        heading: one line above.

    Returns:
        An SVG file.
    """
    names = list(next(iter(rates.values())))
    few = len(names) <= NAMED_CLASSES
    figure = Figure(figsize=(max(6.0, 0.9 * len(names)) if few else 8.0, 3.4), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(rates)
    for offset, (attack, by_class) in enumerate(rates.items()):
        heights = np.array([np.nan if by_class[name] is None else 100 * by_class[name] for name in names])
        if few:
            axis.bar(np.arange(len(names)) + (offset - (len(rates) - 1) / 2) * width, heights, width, label=attack)
        else:
            tried = np.sort(heights[~np.isnan(heights)])
            axis.plot(np.arange(1, len(tried) + 1), tried, marker=".", label=attack)
    if few:
        axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axis.set_xlabel("target class" if few else "target classes, for each attack from the hardest to the easiest")
    axis.set_ylim(0, 100)
    axis.set_ylabel("targeted success, %")
    axis.set_title(heading, fontsize=11)
    axis.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return _file(figure, "svg")


@_plain
def success_by_epsilon(curves: Mapping[str, Sequence[Mapping]], heading: str) -> bytes:
    """Draws success against epsilon, one line per attack.

    Args:
        curves: attack to points with `epsilon` (fraction of the pixel range) and `success_rate`.
        heading: one line above.

    Returns:
        An SVG file.
    """
    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    axis = figure.subplots()
    for attack, points in curves.items():
        axis.plot(
            [255 * point["epsilon"] for point in points],
            [100 * point["success_rate"] for point in points],
            marker="o",
            markersize=4,
            label=attack,
        )
    axis.set_xlim(left=0)
    axis.set_ylim(0, 102)
    axis.set_xlabel("epsilon, in 1/255")
    axis.set_ylabel("success, %")
    axis.set_title(heading, fontsize=11)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=9)
    return _file(figure, "svg")


def _wrapped(caption):
    """Breaks long lines."""
    return "\n".join(textwrap.fill(line, CAPTION_LETTERS) for line in caption.splitlines())


def _widest(captions):
    """The width of the longest line at `FONT_SIZE`, in points (1/72 inch)."""
    font = FontProperties(size=FONT_SIZE)
    lines = (line for caption in captions for line in caption.splitlines())
    return max(text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] for line in lines)


def _file(figure: Figure, kind: str) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=120)
    return file.getvalue()
