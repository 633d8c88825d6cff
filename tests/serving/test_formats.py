"""The generator as ONNX and as a Keras file."""

import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from served_example import EPSILON, NAMES, PRESET, SHAPE, floats, make_generator

from aigan_tf.errors import InputError
from aigan_tf.exported import check_format
from aigan_tf.method.threat_model import perturb
from aigan_tf.serving.export import ServedGenerator
from aigan_tf.serving.keras_file import write_keras
from aigan_tf.serving.onnx_file import OPSET, write_onnx

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "serving.md"
CLASSES = (4, 0, 2)  # that are served


@dataclasses.dataclass
class Formats:
    """A generator's files, and what they should compute."""

    onnx: pathlib.Path
    keras: pathlib.Path
    inputs: list[dict]
    pictures: list[np.ndarray]


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    """A generator with every part, in both formats; one file serves every batch size."""
    pytest.importorskip("tf2onnx")
    folder = tmp_path_factory.mktemp("formats")
    maps = dict(class_maps=2, gain_maps=True, map_size=8, patch=3)  # smaller than the images
    network = make_generator(len(CLASSES), budget_input=True, classes=CLASSES, **maps)
    served = ServedGenerator(network, SHAPE, NAMES, EPSILON, True, variable_epsilon=True)
    inputs = [make_inputs(count) for count in (1, 5)]
    pictures = [served.attack(*given.values()).numpy() for given in inputs]
    return Formats(write_onnx(folder, served, PRESET), write_keras(folder, served), inputs, pictures)


def make_inputs(count):
    images = floats(count)
    images[0, 0], images[0, 1] = 0.0, 1.0
    epsilons = np.linspace(0.2, 1.0, count, dtype=np.float32) * np.float32(EPSILON)
    return {"images": images, "target_class": np.resize(CLASSES, count).astype(np.int32), "epsilon": epsilons}


def run_onnxruntime(path, inputs):
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    found = {one.name: one.shape for one in session.get_inputs()}
    assert found == {"images": ["batch", *SHAPE], "target_class": ["batch"], "epsilon": ["batch"]}
    (pictures,) = session.run(["adversarial_images"], inputs)
    return pictures


def run_openvino(path, inputs):
    return pytest.importorskip("openvino").compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs)[0]


@pytest.mark.parametrize("run", [run_onnxruntime, run_openvino])
def test_an_onnx_file_gives_the_same_pictures_within_the_budget(run, formats):
    for inputs, expected in zip(formats.inputs, formats.pictures, strict=True):
        pictures = run(formats.onnx, inputs)
        np.testing.assert_allclose(pictures, expected, atol=1e-5)
        change = np.abs(pictures - inputs["images"]).max(axis=(1, 2, 3))
        assert (change <= inputs["epsilon"] + 1e-7).all()
        assert change.max() > 0.5 * inputs["epsilon"].max()
        assert pictures.min() >= 0.0
        assert pictures.max() <= 1.0


def test_an_onnx_file_states_its_opset_and_its_classes(formats):
    model = pytest.importorskip("onnx").load(formats.onnx)
    assert {one.domain: one.version for one in model.opset_import}[""] == OPSET
    assert all(name in {one.key: one.value for one in model.metadata_props}["class_names"] for name in NAMES)


def test_a_keras_file_gives_the_same_pictures(formats):
    network = keras.saving.load_model(formats.keras)
    for inputs, expected in zip(formats.inputs, formats.pictures, strict=True):
        pictures = perturb(network, *inputs.values(), EPSILON)[1]
        np.testing.assert_allclose(pictures, expected, atol=1e-5)


def test_the_code_of_the_page_makes_pictures_of_a_keras_file(formats, tmp_path, monkeypatch):
    (tmp_path / "runs" / "cifar10").mkdir(parents=True)
    shutil.copy(formats.keras, tmp_path / "runs" / "cifar10" / "model.keras")
    monkeypatch.chdir(tmp_path)
    inputs = dict(formats.inputs[0])  # one image
    (code,) = re.findall("```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(code, inputs)
    change = np.abs(inputs["adversarial_images"] - inputs["images"]).max()
    assert 0.5 * EPSILON < change <= EPSILON + 1e-7


LOAD = """
import sys, keras
import aigan_tf.method.networks
assert keras.saving.load_model(sys.argv[1]).count_params()
"""


@pytest.mark.long
def test_a_keras_file_loads_in_another_process_after_the_import_that_the_docs_name(formats):
    subprocess.run([sys.executable, "-c", LOAD, formats.keras], check=True)


@pytest.mark.parametrize(("file_format", "others"), [("onnx", (True, False)), ("keras", (False, True))])
def test_other_formats_take_neither_a_classifier_nor_bfloat16(file_format, others):
    with pytest.raises(InputError) as caught:
        check_format(file_format, *others)
    assert caught.value.setting == "format"


def test_onnx_names_the_package_that_it_needs(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install tf2onnx"):
        check_format("onnx", False, False)
