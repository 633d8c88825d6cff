"""The folder of adversarial images that save_images writes."""

import csv
import os

import numpy as np
import pytest

from aigan_tf.evaluation.image_folder import ImageFolder

ODD = os.fsdecode(b"test/cat/\xff.png")  # a file name that is not text


@pytest.mark.parametrize("sources", [np.array(["test/dog/a.png", "test/cat/b.png", ODD]), None])
def test_manifest_names_the_file_of_each_clean_image(sources, tmp_path):
    index = np.array([2, 1])
    batch = {"index": index, "label": index - 1, "target": 2 - index, "answer": index}
    norms = dict.fromkeys(("l2", "linf", "ssim"), np.zeros(2))
    with ImageFolder(tmp_path / "kept", ("cat", "dog"), True, sources) as folder:
        folder.keep("aigan", {**batch, **norms, "pictures": np.zeros((2, 8, 8, 1), np.uint8)})
    with open(tmp_path / "kept" / "manifest.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert [row["index"] for row in rows] == ["2", "1"]
    assert [row["source"] for row in rows] == (["", ""] if sources is None else [ODD, "test/cat/b.png"])
    assert all((tmp_path / "kept" / row["file"]).exists() for row in rows)
