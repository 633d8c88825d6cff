"""A comparison as one HTML page that needs no other file."""

import base64
import html
from collections.abc import Mapping, Sequence

from aigan_tf.errors import shown_value
from aigan_tf.evaluation import figures, tables

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1c1c; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.35rem 0.6rem; border-bottom: 1px solid #ddd; vertical-align: top; }
th { border-bottom: 2px solid #888; }
img { max-width: 100%; height: auto; display: block; }
figure { margin: 0; } figcaption, .note { color: #555; font-size: 0.9rem; }
.warning { background: #fff3cd; border-left: 4px solid #d39e00; padding: 0.5rem 0.8rem; }
"""


def table(rows: Sequence[Sequence[str]]) -> str:
    """Returns an HTML table; the first row is its header."""
    header, *body = rows
    lines = ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in header) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in body]
    return '<div class="scroll"><table>' + "\n".join(lines) + "</table></div>"


def figure(file: bytes, caption: str) -> str:
    """Returns a PNG or SVG file as part of a page; its caption is its text for screen readers too."""
    kind = "png" if file.startswith(b"\x89PNG") else "svg+xml"
    data = base64.b64encode(file).decode()
    text = html.escape(caption, quote=True)
    return f'<figure><img alt="{text}" src="data:image/{kind};base64,{data}"><figcaption>{text}</figcaption></figure>'


def page(title: str, sections: Mapping[str, str], notes: Sequence[str] = (), warnings: Sequence[str] = ()) -> str:
    """Returns a whole HTML document.

    Args:
        title: heading and title.
        sections: heading to HTML of each section.
        notes: paragraphs below the title.
        warnings: highlighted paragraphs below them.
    """
    parts = [f'<p class="note">{html.escape(note)}</p>' for note in notes]
    parts += [f'<p class="warning">{html.escape(warning)}</p>' for warning in warnings]
    parts += [f"<h2>{html.escape(heading)}</h2>\n{content}" for heading, content in sections.items()]
    name = html.escape(title)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f"<body><h1>{name}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def comparison_page(result: Mapping, grid: bytes | None) -> str:
    """Returns the page of a comparison.

    Args:
        result: report.json of `evaluate_workdir`.
        grid: a PNG file with examples; None for none.
    """
    attacks = result["attacks"]
    name, first = next(iter(attacks.items()))
    sections = {"Attacks": table(tables.comparison_rows(attacks))}
    if result["transfer"]:
        rows = tables.comparison_rows(result["transfer"])
        sections["The generator against classifiers it was not trained on"] = table(rows)
    if grid:
        caption = (
            "What each generator makes of one image per class. Magnified: grey is no change, black and white are a change of "
            "epsilon."
        )
        sections["Examples"] = figure(grid, caption)
    rows, num_classes = tables.class_rows(attacks), len(first["success_by_class"])
    shown = len(rows) - 1
    hardest = f"The {shown} of {num_classes:,} classes on which {name} succeeds least; report.json has all."
    sections["By class"] = (f'<p class="note">{html.escape(hardest)}</p>' if shown < num_classes else "") + table(rows)
    if first["attack"] == "targeted":
        rates = {name: row["success_by_class"] for name, row in attacks.items()}
        bars = figures.success_by_target(rates, "Success by target")
        sections["By class"] += figure(bars, "Targeted success by target class, on attacked images of other classes.")
    if "success_matrix" in first:
        cells = figures.matrix(first["success_matrix"], list(first["success_by_class"]), name)
        sections["From class to class"] = figure(cells, f"{name}: targeted success by true class and target class.")
    if result["success_by_epsilon"]:
        curves = figures.success_by_epsilon(result["success_by_epsilon"], "Success by epsilon")
        count = next(iter(result["success_by_epsilon"].values()))[0]["num_attacks"]
        sections["Success against epsilon"] = figure(curves, f"{count} attacks per point, one drawn target per image.")
    sections["Settings"] = table([("attack", "settings"), *result["settings"].items()])
    return page(f"Attacks on {result['dataset']}", sections, _comparison_notes(result, first), result["warnings"])


def _comparison_notes(result, first):
    """How the numbers were measured; `first` is the result of the first attack."""
    defended = f", adversarially trained ({result['defense']})" if result["defense"] else ""
    accuracy = f", accuracy {first['clean_accuracy']:.2%} on these images" if "clean_accuracy" in first else ""
    return [
        f"{first['attack'].capitalize()} attacks on {result['classifier']}{defended}{accuracy}, within "
        f"epsilon {shown_value(first['epsilon'])}; {first['num_examples']:,} images of the {first['split']} split, seed {first['seed']}, {result['device']}.",
        "Only images that the classifier gets right are attacked; n is the number of attacks, one per image and target. Images "
        "are rounded to 8 bits, within epsilon of the clean ones, before success is counted; unrounded is the success rate "
        "before that. Intervals are Wilson's, as if all attacks were independent.",
        "L2 and SSIM are means and Linf is the maximum over all attacks, failed ones too, with pixels in [0, 1]; an attack that "
        f"gives up leaves its image unchanged. Times are for batches of {result['batch_size']} on {result['processor']}.",
        *tables.notes(result),
    ]


def defence_page(rows: Mapping[str, Mapping], warnings: Sequence[str]) -> str:
    """Returns the page of what `compare_defences` measured."""
    first = next(iter(rows.values()))
    notes = [
        f"Epsilon {shown_value(first['epsilon'])}, {first['num_examples']:,} images of the test split, {first['device']}. "
        "Accuracy under fgsm and pgd is measured with untargeted attacks (foolbox; PGD with 40 steps) on all images; success is "
        "measured on the images that the classifier gets right, and of a targeted attack it means reaching the target."
    ]
    return page("Defences", {"Accuracy and success": table(tables.defence_rows(rows))}, notes, warnings)
