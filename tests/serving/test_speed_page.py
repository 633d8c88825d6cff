"""The section on speed of docs/serving.md."""

from benchmarks import serving_speed
from tools.markdown import section

RESULT = {
    "workdir": "pretrained/cifar10",
    "image_shape": (32, 32, 3),
    "machine": dict(device="CPU", processor="x", tensorflow="1", onnxruntime="2", openvino="3"),
    "engines": {"one": {"1": 0.001, "8": 0.008, "64": 0.1}, "two": {"1": 0.002, "8": 0.004, "64": 0.03}},
    "servers": {"REST": {"1": 0.004, "8": 0.02}},
}


def test_the_page_has_the_times_that_were_measured():
    assert section(serving_speed.PAGE.read_text(), "speed", serving_speed.SCRIPT) == serving_speed.section()


def test_a_result_names_the_fastest_engine_of_each_batch_size():
    shown = serving_speed.tables(RESULT)
    assert "Fastest: one at batch 1; two at batch 8 and 64." in shown
    assert "| two | 2.0, 500 | 4.0, 2,000 | 30.0, 2,133 |" in shown
    assert "| REST | 4.0, 250 | 20.0, 50 |" in shown
