"""The examples, run as their first lines say."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

import aigan_tf

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.long


def post(address, value):
    """The status and the JSON of an answer."""
    request = urllib.request.Request(address, json.dumps(value).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def wait_for(address, process, seconds=240):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail("the server did not start")


def test_bentoml_answers_with_the_generators_images_and_refuses_others(tmp_path):
    pytest.importorskip("bentoml")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bentoml", "serve", "examples/bentoml_service.py:AdversarialImages"]
    environment = os.environ | {
        "GENERATOR": "pretrained/mnist", "BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True", "PYTHONPATH": ".",
    }  # fmt: skip
    process = subprocess.Popen(
        [*command, "--host=127.0.0.1", f"--port={port}"], cwd=ROOT, env=environment, start_new_session=True
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz", process)
        images = np.random.default_rng(0).uniform(0.0, 1.0, (2, 28, 28, 1)).astype(np.float32)
        request = {"images": images.tolist(), "target_classes": ["3", "8"]}
        status, answer = post(f"http://127.0.0.1:{port}/attack", request)
        assert status == 200, answer
        expected = aigan_tf.attack(str(ROOT / "pretrained" / "mnist"), images, ["3", "8"])
        np.testing.assert_allclose(answer, expected, atol=1e-5)
        status, answer = post(f"http://127.0.0.1:{port}/attack", request | {"target_classes": ["3", "cat"]})
        assert status == 400
        assert "cat" in json.dumps(answer)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
