"""Figures of what was measured, drawn with matplotlib and returned as files in memory."""

import functools
import io
import textwrap
import unicodedata
import warnings
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure  # not pyplot: it would touch the notebook's own plots
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, MaxNLocator

from aigan_tf.errors import shown_value

COLUMN = 1.1  # width of an image in a grid, in inches
CAPTION_WIDTH = 18  # letters per line, half as many wide ones; more would be too small to read
FONT_SIZE = 9

# Okabe and Ito's colours, which colour-blind readers can tell apart, without yellow, which is pale on white; black stands
# last for more lines than usual. Line and marker differ too.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = (
    cycler(color=PALETTE)
    + cycler(linestyle=("-", "--", "-.", ":", "-", "--", "-."))
    + cycler(marker=("o", "s", "^", "D", "v", "P", "X"))
)

# Fonts of other scripts and symbols on Linux, macOS and Windows, for the names of classes.
_OTHER_FONTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Hiragino Sans", "PingFang HK",
    "Arial Unicode MS", "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Nirmala UI", "Noto Sans",
    "Noto Emoji", "Symbola", "Segoe UI Symbol", "Segoe UI Emoji",
)  # fmt: skip


@functools.cache
def _families():
    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _OTHER_FONTS if name in installed)]


def _styled(draw):
    """Draws with the palette, the installed fonts, and without reading $ in the name of a class as a formula."""

    @functools.wraps(draw)
    def drawn(*arguments, **named):
        # In an SVG text stays text: who shows it has other fonts, so that a glyph that is missing here does not matter.
        style = {
            "text.parse_math": False,
            "axes.prop_cycle": LINES,
            "font.family": _families(),
            "svg.fonttype": "none",
        }
        with matplotlib.rc_context(style), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")
            return draw(*arguments, **named)

    return drawn


def drawable(text: str, instead: str) -> str:
    """Returns a text that a PNG shows without empty boxes: `instead` if no installed font has one of its characters."""
    fonts = [get_font(findfont(FontProperties(family=family))) for family in _families()]
    known = (c.isspace() or any(font.get_char_index(ord(c)) for font in fonts) for c in text)
    return text if all(known) else instead


def drawable_names(class_names: Sequence[str]) -> list[str]:
    """Returns the names of classes as a PNG shows them: by number if no installed font has them."""
    return [drawable(name, f"class {number}") for number, name in enumerate(class_names)]


def magnified(images: np.ndarray, adversarial_images: np.ndarray, epsilon: float) -> np.ndarray:
    """Returns perturbations as images: mid-grey for no change, black and white for a change of `epsilon`.

    Args:
        images, adversarial_images: float32 `(n, height, width, channels)` in `[0, 1]`.
        epsilon: float, L-infinity budget as a fraction of the pixel range.

    Returns:
        float32, the same shape.
    """
    return 0.5 + (adversarial_images - images) / (2 * epsilon)


@_styled
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


def attack_grid(
    images: np.ndarray, adversarial_images: np.ndarray, epsilon: float, captions: Sequence[str], heading: str
) -> bytes:
    """Draws clean images, what was added to them, and the results, one column per image.

    Args:
        images, adversarial_images, epsilon: as in `magnified`.
        captions, heading: as in `picture_grid`.

    Returns:
        A PNG file.
    """
    rows = {
        "clean": images,
        "perturbation,\nmagnified": magnified(images, adversarial_images, epsilon),
        "adversarial": adversarial_images,
    }
    return picture_grid(rows, captions, heading)


@_styled
def success_by_target(rates: Mapping[str, Mapping[str, float | None]]) -> bytes:
    """Draws the success rates of target classes, from the hardest to the easiest, one line per attack.

    Args:
        rates: attack to target class to rate; None if it was not attacked.

    Returns:
        An SVG file.
    """
    figure, axis = _line_chart("target classes, from the hardest to the easiest", "targeted success, %")
    for attack, by_class in rates.items():
        tried = sorted(100 * rate for rate in by_class.values() if rate is not None)
        axis.plot(range(1, len(tried) + 1), tried, marker=".", label=attack)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=FONT_SIZE)
    return _file(figure, "svg")


@_styled
def success_by_epsilon(curves: Mapping[str, Sequence[Mapping]]) -> bytes:
    """Draws success against epsilon, one line per attack.

    Args:
        curves: attack to points with `epsilon` (fraction of the pixel range) and `success_rate`.

    Returns:
        An SVG file.
    """
    figure, axis = _line_chart("epsilon", "success, %")
    for attack, points in curves.items():
        axis.plot(
            [point["epsilon"] for point in points],
            [100 * point["success_rate"] for point in points],
            markersize=4,
            label=attack,
        )
    axis.set_xlim(left=0)
    epsilon_axis(axis.xaxis, max(point["epsilon"] for points in curves.values() for point in points))
    figure.legend(loc="outside lower center", frameon=False, fontsize=FONT_SIZE)
    return _file(figure, "svg")


def _line_chart(across, up):
    """Returns an empty figure for 400 pixels of a page, and its axes, labelled and from 0 to 100 %."""
    figure = Figure(figsize=(4.2, 3.4), layout="constrained")
    axis = figure.subplots()
    axis.set_xlabel(across)
    axis.set_ylabel(up)
    axis.set_ylim(0, 102)
    axis.grid(alpha=0.3)
    return figure, axis


def epsilon_axis(axis: matplotlib.axis.Axis, largest: float) -> None:
    """Writes budgets as everywhere else: `8/255`, or `0.3` if the largest is not a whole number of grey levels."""
    unit = 255 if "/" in shown_value(largest) else 1
    ticks = [
        tick / unit
        for tick in MaxNLocator(nbins=5, integer=unit == 255, steps=[1, 2, 5, 10]).tick_values(0, largest * unit)
    ]
    axis.set_ticks([tick for tick in ticks if tick <= largest * 1.001])
    axis.set_major_formatter(FuncFormatter(lambda budget, _: "0" if budget == 0 else shown_value(float(budget))))


def _wrapped(caption):
    """Breaks long lines; a wide letter counts as two."""

    def fill(line):
        wide = any(unicodedata.east_asian_width(c) in "WF" for c in line)
        return textwrap.fill(line, CAPTION_WIDTH // 2 if wide else CAPTION_WIDTH)

    return "\n".join(map(fill, caption.splitlines()))


def _widest(captions):
    """The width of the longest line at `FONT_SIZE`, in points (1/72 inch)."""
    font = FontProperties(size=FONT_SIZE)
    lines = (line for caption in captions for line in caption.splitlines())
    return max(text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] for line in lines)


def _file(figure: Figure, kind: str) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=120)
    return file.getvalue()
