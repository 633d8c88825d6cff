"""The pages of reports: one run's attacks, and several runs with different defences."""

import pathlib
from collections.abc import Mapping, Sequence

from aigan_tf.config import attack_kind
from aigan_tf.errors import shown_value
from aigan_tf.evaluation import figures, html_page, tables
from aigan_tf.evaluation.attacks import ADVGAN, GENERATOR, REFINED, STAGE1, follows_gradient
from aigan_tf.evaluation.examples import Example
from aigan_tf.evaluation.foolbox_attacks import PGD_STEPS

_SUBJECTS = {
    GENERATOR: "One forward pass",
    REFINED: "One forward pass, then PGD-{steps} if it fails,",
    STAGE1: "The generator at the end of stage 1",
    ADVGAN: "AdvGAN",
    "fgsm": "FGSM",
    "pgd-N": "PGD-{steps}",
    "pgd": f"PGD-{PGD_STEPS}",
    "cw": "Carlini and Wagner's attack, without a budget,",
    "cw, moved into epsilon": "Carlini and Wagner's attack, moved into epsilon,",
}
FEW_CLASSES = 20  # whose rates are seen at once in a table
_GAP = "\N{NO-BREAK SPACE}"


def headline(attacks: Mapping[str, Mapping]) -> str:
    """Returns the result of a comparison as one sentence: the generators, then their longest refinement and PGD (else
    FGSM) with their times.

    Args:
        attacks: name to `AttackResult.to_dict()`.
    """
    by_steps = sorted(attacks, key=lambda name: _kind(name)[1], reverse=True)
    refined, short_pgd = ([name for name in by_steps if _kind(name)[0] == kind] for kind in (REFINED, "pgd-N"))
    names = [name for name in (GENERATOR, ADVGAN, STAGE1) if name in attacks] + refined[:1] or list(attacks)[:1]
    names += [name for name in ("pgd", *short_pgd, "fgsm") if name in attacks and name not in names][:1]
    first = attacks[names[0]]
    reaches = "reaches the chosen class" if first["attack"] == "targeted" else "changes the classifier's answer"
    parts = [f"{_subject(names[0])} {reaches} on {_share(first)} of {first['num_attacks']:,} attacks"]
    for name in names[1:]:
        row = attacks[name]
        others = f" of {row['num_attacks']:,}" if row["num_attacks"] != first["num_attacks"] else ""
        times = row["milliseconds_per_image"] / first["milliseconds_per_image"]
        time = f", at {times:.{0 if times >= 10 else 1}f} times the time" if follows_gradient(name) else ""
        subject = _subject(name)
        if subject.startswith(("One", "The")):
            subject = subject[0].lower() + subject[1:]
        parts.append(f"{subject} on {_share(row)}{others}{time}")
    return "; ".join(parts) + "."


def _kind(name):
    """What `attack_kind` returns; "cw, moved into epsilon", which is no name of an attack, is its own kind."""
    return attack_kind(name) or (name, 0)


def _subject(name):
    kind, steps = _kind(name)
    return _SUBJECTS[kind].format(steps=steps)


def _share(row):
    """A rate as a reader says it: not 100 % for 99.96 %."""
    rate = row["success_rate"]
    if rate in (0.0, 1.0):
        return "none" if rate == 0 else f"100{_GAP}%"
    return f"{min(max(100 * rate, 0.1), 99.9):.1f}{_GAP}%"


def comparison_page(result: Mapping, examples: Sequence[Example] = ()) -> str:
    """Returns the page of one run's attacks.

    Args:
        result: report.json of `evaluate_workdir`.
        examples: of `examples_of`.
    """
    attacks = result["attacks"]
    name, first = next(iter(attacks.items()))
    sections = {"": html_page.paragraphs(result["warnings"], "warning"), "Attacks": _attack_table(attacks)}
    if result["transfer"]:
        sections["The generator against classifiers it was not trained on"] = _attack_table(
            tables.without_folders(result["transfer"])
        )
    if examples:
        sections["Examples"] = _examples(examples, first["attack"] == "targeted")
    sections["By class"] = _by_class(attacks)
    if "success_matrix" in first:
        cells = html_page.heat_map(first["success_matrix"], list(first["success_by_class"]), "true class, target class")
        text = f"{name}: targeted success in %, rounded down; a row is a true class, a column a target class."
        sections["From class to class"] = cells + html_page.paragraphs([text])
    if result["success_by_epsilon"]:
        curves = figures.success_by_epsilon(result["success_by_epsilon"])
        count = next(iter(result["success_by_epsilon"].values()))[0]["num_attacks"]
        caption = f"Success against epsilon, {count:,} attacks per point."
        sections["Success against epsilon"] = html_page.figure(curves, caption)
    sections["Settings"] = html_page.table([("attack", "settings"), *result["settings"].items()])
    sections["How this was measured"] = html_page.paragraphs([*_method(result), *tables.notes(result)])
    title = f"Attacks on {result['dataset']}"
    return html_page.page(title, headline(attacks), _facts(result, first) | _origin(result), sections)


def _attack_table(attacks):
    over = {(name, "Linf") for name, row in attacks.items() if tables.exceeds_epsilon(row)}
    clean = {row.get("clean_accuracy") for row in attacks.values()}  # of one classifier: above the table
    columns = [column for column in tables.filled_columns(attacks) if column.title != "clean" or len(clean) > 1]
    rows, best = tables.comparison_rows(attacks, columns), tables.best_cells(attacks)
    notes = ["★ the best of its column, among the attacks that stay within epsilon and succeed."] if best else []
    notes += ["⚠ beyond epsilon."] if over else []
    return html_page.table(rows, best, over) + html_page.paragraphs([" ".join(notes)] if notes else [])


def _examples(examples, targeted):
    def content(example):
        pictures = []
        for name, made in example.attacked.items():
            if not pictures:
                lines = ["clean", _answer(example.clean)]
                pictures.append(html_page.picture(example.clean.picture, f"clean image of {example.label}", lines))
            else:
                pictures.append("<div></div>")
            pictures.append(html_page.picture(made.magnified, f"perturbation of {name}", [name, "perturbation"]))
            answer = _answer(made.adversarial)
            lines = [f"{'✓ succeeds' if made.succeeds else '✗ misses'}", answer]
            text = f"adversarial image of {name}: {answer}"
            pictures.append(html_page.picture(made.adversarial.picture, text, lines, missed=not made.succeeds))
        return "".join(pictures)

    captions = [f"{_apart(one.label)} → {_apart(one.target) if targeted else 'any other'}" for one in examples]
    text = (
        "One image per class; below each the classifier's answer and its confidence. In a perturbation grey is no change, "
        "black and white are a change of epsilon."
    )
    return html_page.cards(captions, [content(example) for example in examples]) + html_page.paragraphs([text])


def _answer(answer):
    return f"{_apart(answer.answer)} {100 * answer.confidence:.1f}{_GAP}%"


def _apart(name):
    """A class name whose letters, if written from right to left, do not turn what stands beside it."""
    return f"\N{FIRST STRONG ISOLATE}{name}\N{POP DIRECTIONAL ISOLATE}"


def _by_class(attacks):
    first_name, first = next(iter(attacks.items()))
    rows, num_classes = tables.class_rows(attacks), len(first["success_by_class"])
    shown = len(rows) - 1
    table = html_page.table(rows, bars=lambda cell: cell if cell.endswith("%") else None)
    if shown < num_classes:
        text = f"The {shown} of {num_classes:,} classes on which {first_name} succeeds least; report.json has all."
        table = html_page.paragraphs([text]) + table
    if num_classes > FEW_CLASSES and first["attack"] == "targeted":
        rates = {name: row["success_by_class"] for name, row in attacks.items()}
        caption = "Targeted success by target class, from the hardest to the easiest of each attack."
        table = html_page.figure(figures.success_by_target(rates), caption) + table
    return table


def _facts(result, first):
    """What was attacked, as name to text; `first` is the result of the first attack."""
    defended = f", adversarially trained ({result['defense']})" if result["defense"] else ""
    accuracy = f", accuracy {first['clean_accuracy']:.2%} on these images" if "clean_accuracy" in first else ""
    return {
        "Classifier": f"{pathlib.PurePath(result['classifier']).name}{defended}{accuracy}",
        "Threat model": f"{first['attack']}, L-infinity, epsilon {shown_value(first['epsilon'])}",
        "Images": f"{first['num_examples']:,} of the {first['split']} split, of which {first['num_correct']:,} are answered "
        f"correctly and attacked; attacks: {tables.attacks_text(first)}; seed {first['seed']}",
        "Work folder": pathlib.PurePath(result["workdir"]).name,  # early reports have the whole path
    }


def _origin(result):
    """When, with what and how a report was made, as name to text; early reports lack some of it."""
    versions = " ".join(f"{name} {version}," for name, version in result["versions"].items() if version)
    known = {
        "Date": (result.get("date") or "")[:16].replace("T", " "),
        "Versions": versions.rstrip(","),
        "Commit": (result["commit"] or "")[:12],
        "Command": result.get("command"),
        "Device": result["device"],
        "Report": result.get("id"),
    }
    return {name: text for name, text in known.items() if text}


def _method(result):
    return [
        "Only images that the classifier gets right are attacked; n is the number of attacks, one per image and target. Images "
        "are rounded to 8 bits, within epsilon of the clean ones, before success is counted; unrounded is the success rate "
        "before that. Intervals are Wilson's, as if all attacks were independent.",
        "L2 and SSIM are means and Linf is the maximum over all attacks, failed ones too, with pixels in [0, 1]; an attack that "
        f"gives up leaves its image unchanged. Times are for batches of {result['batch_size']} on {result['processor']}.",
    ]


def defence_page(runs: Mapping[str, Mapping]) -> str:
    """Returns the page of what `compare_defences` measured.

    Args:
        runs: name of each run, and of the folder with its own page, to what defenses.json holds.
    """
    first = next(iter(runs.values()))
    warnings = [f"{name}: {warning}" for name, row in runs.items() for warning in row["warnings"]]
    method = (
        f"Accuracy under fgsm and pgd is measured with untargeted attacks (foolbox; PGD with {PGD_STEPS} steps) on all images; "
        "success is measured on the images that the classifier gets right, and of a targeted attack it means reaching the "
        "target."
    )
    sections = {
        "": html_page.paragraphs(warnings, "warning"),
        "Accuracy and success": html_page.table(tables.defence_rows(runs), tables.best_defences(runs)),
        "Each run": html_page.links({name: f"{name}/report.html" for name in runs}),
        "How this was measured": html_page.paragraphs([method]),
    }
    accuracies = {name: row["robust_accuracy"]["pgd"] for name, row in runs.items()}
    strongest = max(accuracies, key=accuracies.get)
    sentence = (
        f"Of {len(runs)} classifiers, that of {strongest} keeps the highest accuracy under PGD-{PGD_STEPS}: "
        f"{100 * accuracies[strongest]:.1f}{_GAP}% of {first['num_examples']:,} images."
    )
    facts = {
        "Threat model": f"L-infinity, epsilon {shown_value(first['epsilon'])}; generators: {first['attack']}",
        "Images": f"{first['num_examples']:,} of the {first['split']} split, seed {first['seed']}",
    }
    return html_page.page("Defences", sentence, facts | _origin(first), sections)
