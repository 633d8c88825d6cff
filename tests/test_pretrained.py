"""The files under pretrained/ work as they are shipped."""

import dataclasses
import json
import pathlib
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from commands import run_in_process

import aigan_tf
from aigan_tf import cli
from aigan_tf.build import build_generator
from aigan_tf.classifiers.features import features_for
from aigan_tf.config import is_built_in
from aigan_tf.serving.export import ServedGenerator
from aigan_tf.training import run
from aigan_tf.workdir import Workdir, config_of

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = sorted(path.parent for path in (ROOT / "pretrained").glob("*/config.json"))
DATA = ROOT.parent / "shared" / "datasets"
assert FOLDERS

each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


@each_folder
def test_a_folder_is_small_and_all_its_models_are_sealed(folder):
    shipped = [path for path in folder.rglob("*") if path.is_file() and folder / "evaluation" not in path.parents]
    assert sum(path.stat().st_size for path in shipped) < 30e6  # evaluation/ is what evaluate.py adds for a user
    assert is_built_in(config_of(Workdir(folder)).classifier)  # not a file of the machine it was trained on
    assert not [*folder.rglob("*.h5")]  # the weights are in the SavedModel
    models = {path.relative_to(folder).as_posix() for path in (folder / "generator").rglob("*") if path.is_file()}
    models.add("classifier.keras")
    assert set(json.loads((folder / "digests.json").read_text())) == models
    for name in models:
        assert (folder / name).is_file()
        Workdir(folder).verify(folder / name)


@each_folder
def test_the_command_of_a_card_has_the_settings_of_its_run(folder, monkeypatch, tmp_path):
    """Even after a preset has changed: `python tools/pretrained.py` writes the cards again."""
    given = []
    monkeypatch.setattr(run, "train_and_export", lambda config, *_, **__: given.append(config))
    (command,) = re.findall(r"\| command \| `python train.py (.*)` \|", (folder / "README.md").read_text())
    assert run_in_process(cli.train, *command.split(), f"--workdir={tmp_path}") == 0
    saved = config_of(Workdir(folder))
    assert given[0].classifier == f"pretrained/{folder.name}/classifier.keras"
    assert dataclasses.replace(given[0], classifier=saved.classifier) == saved


def measure(folder, images, labels):
    """Measures the generator of a folder on uint8 images; returns the result and the report of its run."""
    report = json.loads((folder / "report.json").read_text())
    model = keras.models.load_model(folder / "classifier.keras", compile=False)
    images = images[..., : model.input_shape[-1]]  # grey images are packed with three channels
    names = tuple(report["success_by_class"])
    return aigan_tf.evaluate(folder, model, images, labels, report["epsilon"], class_names=names)["aigan"], report


@each_folder
def test_the_code_of_a_card_attacks_the_shipped_images(folder, monkeypatch):
    monkeypatch.chdir(ROOT)
    page, made = (folder / "README.md").read_text(), {}
    (code,) = re.findall("```python\n(.*?)```", page, re.DOTALL)
    exec(code, made)
    images, adversarial = made["images"], made["adversarial"]  # the first test image of each class
    measured, report = measure(folder, images, np.arange(len(images)))
    assert measured["success_rate"] > 0.8
    assert np.abs(adversarial - images / 255).max() <= report["epsilon"] + 1e-6
    for path in re.findall(r"\]\((samples/.*?)\)", page):
        assert (folder / path).is_file()


@each_folder
def test_the_weights_of_a_generator_are_those_of_its_saved_model(folder):
    """So that it can be exported again, with its classifier or in bfloat16."""
    config, generator = config_of(Workdir(folder)), aigan_tf.load_generator(folder)
    names, shape = generator.class_names, generator.image_shape
    dataset = SimpleNamespace(num_classes=len(names), image_shape=shape)
    network = build_generator(config, dataset, features_for(config, dataset, Workdir(folder)))
    served = ServedGenerator(network, shape, names, config.epsilon, config.targeted, config.variable_epsilon)
    served.restore(folder / "generator" / "1")
    images, targets = np.random.default_rng(0).uniform(0, 1, (2, *shape)).astype(np.float32), np.int32([0, 3])
    np.testing.assert_allclose(served.attack(images, targets), generator(images, targets), atol=1e-6)


@pytest.mark.long
@each_folder
def test_a_generator_succeeds_on_test_images_as_its_report_says(folder):
    packed = DATA / f"{folder.name}-test.npz"
    if not packed.exists():
        pytest.skip(f"{folder.name} is not on this machine")
    pack = np.load(packed)
    blob, offsets, count = pack["webp"].tobytes(), pack["offsets"], 100
    decoded = [tf.io.decode_image(blob[offsets[i] : offsets[i + 1]], expand_animations=False) for i in range(count)]
    measured, report = measure(folder, np.stack(decoded), pack["labels"][:count].astype(np.int32))
    # About 850 attacks, not independent: a hundred images' rates stray by a few points from those of ten thousand.
    assert measured["success_rate"] == pytest.approx(report["success_rate"], abs=0.05)
    assert measured["clean_accuracy"] == pytest.approx(report["clean_accuracy"], abs=0.1)
