"""Training on several devices and in several processes computes what one device computes."""

import contextlib
import json
import os
import pathlib
import re
import resource
import socket
import subprocess
import sys

import keras
import pytest
import tensorflow as tf

from aigan_tf.config import make_config
from aigan_tf.engine.distribution import Devices
from aigan_tf.errors import InputError
from aigan_tf.training.run import train_and_export

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("steps_done", [0, 4])
def test_fewer_steps_than_planned_are_an_error_unless_a_callback_stopped(steps_done):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = tf.data.Dataset.from_tensors((tf.ones((2, 1)), tf.ones((2, 1))))
    epochs_seen = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs_seen.append(epoch))

    def fit(*callbacks):
        Devices().fit(model, lambda _: data.repeat(), 3, steps_done, 4, data, [watch, *callbacks])

    fit()
    assert epochs_seen == list(range(steps_done // 3, 4))
    keras.config.set_max_epochs(2)
    try:
        with pytest.raises(InputError, match="after 6 of 12"):
            fit()
    finally:
        keras.config.set_max_epochs(None)
    epochs_seen.clear()
    fit(keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: setattr(model, "stop_training", True)))
    assert epochs_seen == [steps_done // 3]


@pytest.mark.long
def test_two_devices_with_half_a_batch_each_compute_what_one_does():
    command = [sys.executable, str(ROOT / "tests" / "engine" / "compare_replicas.py")]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stderr[-2000:]
    compared = json.loads(finished.stdout.splitlines()[-1])

    assert compared["replicas"] == 2
    assert compared["moved"] > 1e-3
    assert compared["weights"] < 1e-5
    assert compared["float32_gradients"] < 1e-4
    assert compared["overflow_weights"] == 0.0  # a step that overflows on one device is left out on both
    names = compared["metrics"].keys()
    assert {"generator_loss", "discriminator_loss", "targeted_success_rate", "perturbation_linf"} <= names
    assert {"val_generator_loss", "val_targeted_success_rate", "val_perturbation_l2"} <= names
    for name, (one, two) in compared["metrics"].items():
        assert two == pytest.approx(one, rel=1e-6), name


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def no_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))  # Python tries its temporary folder with a few bytes


@pytest.mark.long
def test_two_processes_train_together_and_the_first_alone_writes(tmp_path):
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    command = [
        sys.executable, str(ROOT / "train.py"), "--strategy=multiworker", "--generator_width=4", "--generator_blocks=1",
        "--steps_per_epoch=3", "--stage1_epochs=1", "--stage2_epochs=1", "--classifier_epochs=2", "--batch_size=32",
        f"--workdir={tmp_path / 'run'}",
    ]  # fmt: skip

    def start(index):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task), "PYTHONDONTWRITEBYTECODE": "1"}
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        limit = no_files if index else None  # the second can write no file of any use
        return subprocess.Popen(command, env=environment, preexec_fn=limit, **pipes)

    processes = [start(index) for index in (0, 1)]
    try:
        outputs = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "trained on 2 devices (multiworker)" in outputs[0]
    # Both see the numbers of the whole batch.
    epochs = [re.findall(r"^epoch .*(success .*, L2 [\d.]+)", text, re.MULTILINE) for text in outputs]
    assert len(epochs[0]) == 2
    assert epochs[0] == epochs[1]
    assert json.loads((tmp_path / "run" / "report.json").read_text())["num_attacks"] > 0
    assert (tmp_path / "run" / "generator" / "1" / "saved_model.pb").exists()


@pytest.mark.parametrize("config", ["", '{"cluster": {"worker": []}}', "[1]"])
def test_a_worker_without_tf_config_is_refused(config, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(InputError, match="TF_CONFIG cannot be used"):
        train_and_export(make_config(), tmp_path / "run", strategy="multiworker")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("index", "is_chief"), [("0", True), (0, True), ("1", False)])
def test_the_first_worker_is_the_chief(index, is_chief, monkeypatch):
    task = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": index}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(task))
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", tf.distribute.get_strategy)
    assert Devices("multiworker").is_chief == is_chief


@pytest.mark.long
def test_a_taken_port_is_refused(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        task = {"cluster": {"worker": [address]}, "task": {"type": "worker", "index": 0}}
        command = [sys.executable, str(ROOT / "train.py"), "--strategy=multiworker", f"--workdir={tmp_path / 'run'}"]
        environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert finished.returncode == 2, finished.stderr[-2000:]
    assert finished.stderr.splitlines()[-1].startswith(f"error: {address}")
    assert not (tmp_path / "run").exists()


def test_unfit_strategies_are_refused_before_a_folder_is_made(tmp_path, monkeypatch):
    with pytest.raises(InputError) as unknown:
        Devices("tpu")
    gpu = tf.config.LogicalDevice("GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [gpu])
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda devices: tf.distribute.get_strategy())
    with pytest.raises(InputError) as surrogate:
        train_and_export(make_config(black_box="small"), tmp_path / "run", strategy="mirrored")
    monkeypatch.setattr(Devices, "replicas", 3)
    with pytest.raises(InputError) as batches:
        train_and_export(make_config(), tmp_path / "run", strategy="mirrored")
    assert [error.value.setting for error in (unknown, surrogate, batches)] == ["strategy", "strategy", "batch_size"]
    assert not (tmp_path / "run").exists()
