"""What is shipped under pretrained/ works as it lies there."""

import dataclasses
import json
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.build import trained_generator
from aigan_tf.classifiers import architectures
from aigan_tf.config import Config, is_built_in, make_config
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.data.splits import Split
from aigan_tf.evaluation.evaluation_set import EvaluationSet
from aigan_tf.evaluation.measure import measure_attack
from aigan_tf.method.threat_model import apply_perturbation, bounded
from aigan_tf.workdir import Workdir, config_of

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = sorted(path.parent for path in (ROOT / "pretrained").glob("*/config.json"))
DATA = ROOT.parent / "shared" / "datasets"


def test_something_is_shipped():
    assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_shipped_folder_is_small_whole_and_says_what_it_is(folder):
    shipped = [path for path in folder.rglob("*") if path.is_file() and folder / "evaluation" not in path.parents]
    assert sum(path.stat().st_size for path in shipped) < 10e6  # evaluation/ is what evaluate.py adds for a user
    config = config_of(Workdir(folder))
    assert is_built_in(config.classifier)  # not a file of the machine it was trained on
    card = (folder / "README.md").read_text()
    report = json.loads((folder / "report.json").read_text())
    for number in (f"{report['success_rate']:.2%}", f"{report['num_attacks']:,}", f"{report['clean_accuracy']:.2%}"):
        assert number in card
    for weights in ("generator.weights.h5", "generator_stage1.weights.h5"):
        assert (folder / weights).exists()
    sealed = json.loads((folder / "digests.json").read_text())
    loaded = {"classifier.keras", "generator.weights.h5", "generator_stage1.weights.h5"}
    loaded |= {path.relative_to(folder).as_posix() for path in (folder / "generator").rglob("*") if path.is_file()}
    assert set(sealed) == loaded
    for name in ("classifier.keras", "generator.weights.h5", "generator_stage1.weights.h5", "generator"):
        Workdir(folder).verify(Workdir(folder).path / name)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_command_of_a_card_has_the_settings_of_its_run(folder):
    """Also after a preset has changed: `python tools/pretrained.py` writes the cards anew."""
    (command,) = re.findall(r"\| command \| `python train.py (.*)` \|", (folder / "README.md").read_text())
    given = dict(flag.removeprefix("--").split("=") for flag in command.split())
    assert given.pop("classifier") == f"pretrained/{folder.name}/classifier.keras"
    kinds = {field.name: field.type for field in dataclasses.fields(Config)}
    parsed = {name: value == "True" if kinds[name] is bool else kinds[name](value) for name, value in given.items()}
    saved = config_of(Workdir(folder))
    assert make_config(**parsed, classifier=saved.classifier) == saved


@pytest.mark.long
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_shipped_weights_are_the_exported_generator(folder):
    """Also of a run that is older than some settings, which then were what its network needs."""
    served = tf.saved_model.load(str(folder / "generator" / "1")).signatures["serving_default"]
    model = keras.models.load_model(folder / "classifier.keras", compile=False)
    rng = np.random.default_rng(0)
    images = rng.random((4, *model.input_shape[1:]), np.float32)
    targets = rng.integers(10, size=4).astype(np.int32)
    nothing = Split(np.zeros((1, *images.shape[1:]), np.uint8), np.zeros(1, np.int32))
    dataset = ImageDataset(folder.name, tuple("0123456789"), nothing, nothing, nothing)
    config = config_of(Workdir(folder))
    generator = trained_generator(config, dataset, Workdir(folder))
    perturbations = bounded(generator(images, targets, training=False), config.epsilon)
    ours = apply_perturbation(images, perturbations, config.epsilon)
    np.testing.assert_allclose(ours, served(images=images, target_class=targets)["adversarial_images"], atol=1e-6)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_shipped_generator_succeeds_on_real_images_as_its_report_says(folder):
    packed = DATA / f"{folder.name}-test.npz"
    if not packed.exists():
        pytest.skip(f"{folder.name} is not on this machine")
    report = json.loads((folder / "report.json").read_text())
    pack = np.load(packed)
    blob, offsets, count = pack["webp"].tobytes(), pack["offsets"], 100
    decoded = [tf.io.decode_image(blob[offsets[i] : offsets[i + 1]], expand_animations=False) for i in range(count)]
    model = keras.models.load_model(folder / "classifier.keras", compile=False)
    served = tf.saved_model.load(str(folder / "generator" / "1"))
    serve = served.signatures["serving_default"]
    images = np.stack([image.numpy() for image in decoded]).astype(np.float32) / 255
    images = images[..., : model.input_shape[-1]]  # grey pictures are packed with three channels
    names = tuple(report["success_by_class"])
    examples = EvaluationSet(architectures.frozen(model), images, pack["labels"][:count].astype(np.int32), names)
    result = measure_attack(
        lambda x, k: serve(images=x, target_class=k)["adversarial_images"], examples, report["epsilon"]
    )
    # About 850 attacks, not independent: a hundred images' rates stray by a few points from those of ten thousand.
    assert result.success_rate == pytest.approx(report["success_rate"], abs=0.05)
    assert result.clean_accuracy == pytest.approx(report["clean_accuracy"], abs=0.1)
