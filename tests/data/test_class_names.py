"""Class names from the user's own file."""

import pytest

from aigan_tf.config import make_config
from aigan_tf.data.datasets import load_dataset
from aigan_tf.errors import InputError

NAMES = [f"digit {k}" for k in range(10)]


@pytest.fixture
def loaded(tmp_path):
    """Returns digits with class names from a file of that text."""

    def load(text):
        (tmp_path / "names.txt").write_text(text, encoding="utf-8")
        return load_dataset(make_config(class_names=str(tmp_path / "names.txt")), None)

    return load


@pytest.mark.parametrize("text", ["\n".join(NAMES) + "\n\n", "\ufeff" + "\n".join(NAMES)], ids=["lines", "with a BOM"])
def test_class_names_are_read_from_a_file(text, loaded):
    assert loaded(text).class_names == tuple(NAMES)


@pytest.mark.parametrize(
    ("names", "word"),
    [([*NAMES[:9], "ni\x1bne"], r"ni\\x1bne"), (["zero", "one"], "2 names"), (["same"] * 10, "twice")],
)
def test_unusable_class_names_are_refused(names, word, loaded):
    with pytest.raises(InputError, match=word) as error:
        loaded("\n".join(names))
    assert error.value.setting == "class_names"
