"""The pages of reports and their figures: what is marked, names of any script, and nothing from elsewhere."""

import html.parser
import json
import pathlib
import sys
import warnings

import numpy as np
import pytest

from aigan_tf import provenance
from aigan_tf.evaluation import figures
from aigan_tf.evaluation.comparison_page import comparison_page, defence_page, headline
from aigan_tf.evaluation.examples import Answer, Attacked, Example
from aigan_tf.evaluation.tables import aligned, best_cells, comparison_text, defence_text, display_width

ROOT = pathlib.Path(__file__).parents[2]
COMPARISON = json.loads((ROOT / "docs/results/cifar10/evaluation/report.json").read_text())
COMPARISON |= {"generator_training_device": None, "command": "python evaluate.py", "date": "2026-11-29T14:30:05"}
NAMES = ["猫", "🐈", "Pneumonoultramicroscopicsilicovolcanoconiosis", "<b>&amp;</b> $x$", "العربية"]
VOID = {"meta", "img", "br", "wbr"}


class Page(html.parser.HTMLParser):
    """Elements of a page in order, as tag, attributes and the text within."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        element = (tag, dict(attributes), [])
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), []))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, texts in self.open:
            texts.append(data)

    def texts(self, tag=None, kind=None):
        found = (e for e in self.elements if tag in (None, e[0]) and kind in (None, *e[1].get("class", "").split()))
        return ["".join(texts) for _, _, texts in found]


def row(success=0.972, milliseconds=1.0, attack="targeted", **changes):
    rates = {"success_rate": success, "success_rate_float": success, "untargeted_success_rate": success}
    norms = {"mean_l2": 1.0, "max_linf": 8 / 255, "max_linf_float": 8 / 255, "mean_ssim": 0.9, "epsilon": 8 / 255}
    rest = {"success_interval": [0.1, 0.2], "milliseconds_per_image": milliseconds, "num_attacks": 82233}
    return rates | norms | rest | {"attack": attack} | changes


@pytest.mark.parametrize(
    ("attacks", "numbers", "absent"),
    [
        ({"aigan": row(), "pgd": row(1.0, 79)}, ["97.2", "82,233", "PGD-40", "100", "79"], []),
        ({"aigan": row(0.99996)}, ["99.9", "82,233"], ["100", "PGD", "times"]),
        ({"aigan": row(), "aigan_stage1": row(0.7), "advgan": row(0.9, num_attacks=1234)}, ["70.0", "90.0", "1,234"], ["times"]),
        ({"fgsm": row(0.3), "pgd": row(0.9, 40)}, ["30.0", "90.0", "40"], ["forward"]),
        ({"aigan": row(0.0)}, ["82,233"], ["0.0"]),
        ({"aigan": row(), "aigan+2": row(0.995, 2), "aigan+1": row(0.99, 2), "pgd-10": row(0.999, 30), "pgd-5": row(0.98, 9)}, ["97.2", "PGD-2", "99.5", "2.0", "PGD-10", "99.9", "30"], ["PGD-1 ", "99.0", "98.0"]),
        ({"aigan+1": row(0.99)}, ["PGD-1", "99.0"], ["times"]),
    ],
)  # fmt: skip
def test_headline_holds_the_numbers(attacks, numbers, absent):
    said = headline(attacks)
    assert all(number in said for number in numbers)
    assert not [word for word in absent if word in said.replace("82,233", "")]
    untargeted = {name: one | {"attack": "untargeted"} for name, one in attacks.items()}
    assert headline(untargeted) != said


def test_best_cells_are_of_attacks_that_keep_to_the_budget():
    attacks = {
        "aigan": row(0.9, 1.0, mean_l2=1.2),
        "pgd": row(1.0, 80.0, mean_l2=1.5),
        "cw": row(1.0, 900.0, mean_l2=0.2, max_linf_float=0.5, max_linf=0.5),
        "none": row(0.0, 2.0, mean_l2=0.0),
    }
    best = best_cells(attacks)
    assert {("pgd", "success (95 %)"), ("aigan", "L2"), ("aigan", "ms/image")} <= best
    assert not [cell for cell in best if cell[0] in ("cw", "none") or cell[1] in ("n", "clean", "Linf")]
    assert best_cells({"aigan": row()}) == set()


def test_page_of_a_comparison_marks_cells_and_loads_nothing():
    page = Page(comparison_page(COMPARISON))
    assert [text for text in page.texts(kind="over") if "18/255" in text] == page.texts(kind="over")
    assert len(page.texts(kind="over")) == 1
    assert any("100.0%" in text for text in page.texts(kind="best"))
    assert all(
        {"src", "href", "xlink:href"}.isdisjoint(a) or a.get("xlink:href", "").startswith("#")
        for _, a, _ in page.elements
    )
    (style,) = page.texts("style")[:1]
    assert all(word in style for word in ("sticky", "@media print", "prefers-color-scheme: dark"))
    assert "http" not in style
    assert {"8/255", "epsilon", "success, %"} <= {text.strip() for text in page.texts("text")}
    assert {"cifar10", "2026-11-29 14:30", "python evaluate.py"} <= {text.strip() for text in page.texts("dd")}


def test_examples_show_answers_and_frame_misses():
    clean = Answer(figures.picture_grid({"x": np.zeros((1, 8, 8, 1))}, ["a"], "h"), NAMES[0], 0.991)
    made = [Attacked(clean.picture, Answer(clean.picture, name, 0.755), name == NAMES[3]) for name in NAMES[2:4]]
    examples = [Example(NAMES[0], NAMES[3], clean, dict(zip(("aigan", "aigan_stage1"), made, strict=True)))]
    page = Page(comparison_page(COMPARISON, examples))
    (missed,) = page.texts("div", kind="missed")
    assert NAMES[2] in missed
    assert "✗" in missed
    shown = "".join(page.texts("figure"))
    assert all(text in shown for text in (*NAMES[2:4], NAMES[0], "99.1", "75.5"))
    pictures = [attributes for tag, attributes, _ in page.elements if tag == "img"]
    assert len(pictures) == 5
    assert all(one["alt"] and one["src"].startswith("data:image/png;base64,") for one in pictures)


def test_columns_of_a_terminal_stand_below_each_other_in_any_script():
    lines = aligned([("猫", "1"), ("cat", "2"), ("🐈", "3")]).splitlines()
    assert lines == ["猫   1", "cat  2", "🐈   3"]


@pytest.mark.parametrize("worst", ["airplane", NAMES[2], 20 * "猫"])
def test_the_table_of_a_terminal_fits_80_columns(worst):
    attacks = {name: one | {"worst_target": worst} for name, one in COMPARISON["attacks"].items()}
    transfer = {"/somewhere/" + 40 * "deep/" + "resnet20": attacks["aigan"]}
    text = comparison_text(COMPARISON | {"attacks": attacks, "transfer": transfer, "warnings": []})
    shown = [line for line in text.splitlines() if "%" in line and not line.startswith("Mean")]
    assert len(shown) == len(attacks) + 3  # with two headers
    assert max(map(display_width, shown)) <= 80
    assert "cw in epsilon" in text
    assert ("ms/image" in text) == (worst == "airplane")


def test_defences_fit_a_terminal():
    rows = json.loads((ROOT / "docs/results/defenses_cifar10/defenses.json").read_text())["runs"]
    titles, *lines = defence_text({path.removeprefix("runs/"): row for path, row in rows.items()}).splitlines()[1:]
    assert titles.split() == ["run", "defense", "clean", "fgsm", "pgd", "aigan", "fgsm", "pgd"]
    assert "cifar10_pgd pgd 39.00% 18.00% 15.00% 9.7% 11.7% 13.7%" in [" ".join(line.split()) for line in lines]
    assert max(map(len, lines)) <= 80


def test_names_of_any_script_are_whole_and_raise_no_warning():
    assert figures.drawable("cat", "class 3") == "cat"
    assert figures.drawable("\U0010fffd", "class 3") == "class 3"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = figures.success_by_target({name: {"cat": 0.5, "dog": None} for name in NAMES}).decode()
        captions = [figures.drawable(name, f"class {number}") for number, name in enumerate(NAMES)]
        figures.picture_grid({"clean": np.zeros((len(NAMES), 8, 8, 1))}, captions, "heading")
    assert set(NAMES) <= {text.strip() for text in Page(drawn[drawn.index("<svg") :]).texts("text")}


@pytest.mark.parametrize(
    ("epsilon", "ticks"), [(8 / 255, {"2/255", "8/255"}), (0.3, {"0.1", "0.3"}), (4 / 255, {"4/255"})]
)
def test_epsilon_is_written_one_way_below_a_curve(epsilon, ticks):
    points = [{"epsilon": epsilon * share / 8, "success_rate": share / 8} for share in range(1, 9)]
    drawn = figures.success_by_epsilon({"pgd": points}).decode()
    texts = {text.strip() for text in Page(drawn[drawn.index("<svg") :]).texts("text")}
    assert ticks <= texts
    assert not [text for text in texts if len(text) > 6 and text[0] == "0"]


def test_page_of_defences_leads_to_the_page_of_each_run():
    row = {
        "classifier": "small",
        "defense": "none",
        "clean_accuracy": 0.9,
        "success_rate": {"aigan": 0.9},
        "epsilon": 0.3,
    }
    row |= {"num_examples": 30, "split": "test", "seed": 0, "attack": "targeted", "versions": {}, "commit": None}
    row |= {"device": "CPU", "warnings": ["beware"]}
    weak, strong = (row | {"robust_accuracy": {"fgsm": share, "pgd": share}} for share in (0.1, 0.6))
    page = Page(defence_page({"a b": weak, "c": strong}))
    links = [attributes["href"] for tag, attributes, _ in page.elements if tag == "a"]
    assert links == ["a%20b/report.html", "c/report.html"]
    assert any("60.00%" in text for text in page.texts(kind="best"))
    assert len(page.texts(kind="warning")) == 2


def test_command_is_shown_without_folders(tmp_path, monkeypatch):
    assert provenance.command() is None  # of the tests themselves
    given = [
        f"--workdir={tmp_path}/run 1",
        "--epsilon=8/255",
        f"--custom_objects={tmp_path}/a.py,b.py",
        "--dataset=x/y:1",
    ]
    monkeypatch.setattr(sys, "argv", ["/somewhere/train.py", *given])
    expected = "python train.py '--workdir=run 1' --epsilon=8/255 --custom_objects=a.py,b.py --dataset=x/y:1"
    assert provenance.command() == expected
