"""The generator as ONNX and as a Keras file."""

import subprocess
import sys

import numpy as np
import pytest
from served_example import EPSILON, NAMES, PRESET, SHAPE, floats, make_generator

from aigan_tf.errors import InputError
from aigan_tf.exported import check_format
from aigan_tf.serving.export import ServedGenerator
from aigan_tf.serving.keras_file import write_keras
from aigan_tf.serving.onnx_file import OPSET, write_onnx

MAPS = dict(class_maps=2, gain_maps=True, map_size=8)  # smaller than the images: they are enlarged in the graph


def make_served(**generator):
    budgets = generator.get("budget_input", False)
    return ServedGenerator(make_generator(**generator), SHAPE, NAMES, EPSILON, True, variable_epsilon=budgets)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    """A generator with every part, and its ONNX file."""
    pytest.importorskip("tf2onnx")
    served = make_served(budget_input=True, **MAPS)
    return served, write_onnx(tmp_path_factory.mktemp("onnx"), served, PRESET)


def run_onnxruntime(path, inputs):
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    found = {one.name: one.shape[1:] for one in session.get_inputs()}
    assert found == {"images": list(SHAPE), "target_class": [], "epsilon": []}
    (pictures,) = session.run(["adversarial_images"], inputs)
    return pictures


def run_openvino(path, inputs):
    return pytest.importorskip("openvino").compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs)[0]


@pytest.mark.parametrize("run", [run_onnxruntime, run_openvino])
def test_an_onnx_file_gives_the_same_pictures_within_the_budget(run, onnx_file):
    served, path = onnx_file
    for count in (1, 5):  # one file serves every batch size
        images = floats(count)
        images[0, 0], images[0, 1] = 0.0, 1.0
        epsilons = np.linspace(0.2, 1.0, count, dtype=np.float32) * np.float32(EPSILON)
        targets = np.arange(count, dtype=np.int32)
        pictures = run(path, {"images": images, "target_class": targets, "epsilon": epsilons})
        np.testing.assert_allclose(pictures, served.attack(images, targets, epsilons), atol=1e-5)
        change = np.abs(pictures - images).max(axis=(1, 2, 3))
        assert (change <= epsilons + 1e-7).all()
        assert change.max() > 0.5 * epsilons.max()
        assert pictures.min() >= 0.0
        assert pictures.max() <= 1.0


def test_an_onnx_file_states_its_opset_and_its_classes(onnx_file):
    model = pytest.importorskip("onnx").load(onnx_file[1])
    assert {one.domain: one.version for one in model.opset_import}[""] == OPSET
    assert all(name in {one.key: one.value for one in model.metadata_props}["class_names"] for name in NAMES)


LOAD = """
import sys, keras, numpy as np
import aigan_tf.method.networks
network = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[2], network(np.load(sys.argv[3]), np.int32([3, 0, 1])))
"""


def test_a_keras_file_loads_in_another_process_and_computes_the_same(tmp_path):
    generator = make_generator(**MAPS)
    served = ServedGenerator(generator, SHAPE, NAMES, EPSILON, True)
    expected = generator(floats(), np.int32([3, 0, 1]), training=False)
    path = write_keras(tmp_path, served)
    np.save(tmp_path / "images.npy", floats())
    given = [str(path), str(tmp_path / "out.npy"), str(tmp_path / "images.npy")]
    run = subprocess.run([sys.executable, "-c", LOAD, *given], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=2e-5)


@pytest.mark.parametrize(("file_format", "others"), [("onnx", (True, False)), ("keras", (False, True))])
def test_other_formats_take_neither_a_classifier_nor_bfloat16(file_format, others):
    with pytest.raises(InputError) as caught:
        check_format(file_format, *others)
    assert caught.value.setting == "format"


def test_onnx_names_the_package_that_it_needs(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install tf2onnx"):
        check_format("onnx", False, False)
