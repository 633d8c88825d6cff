"""Folders of images, and a network that fails."""

import socket

import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture
def no_network(monkeypatch) -> list:
    """Fails every connection and name look-up; returns those that were tried."""
    tried = []

    def refuse(*args, **kwargs):
        tried.append(args[-2:])
        raise OSError("no network in this test")

    for holder, name in ((socket.socket, "connect"), (socket.socket, "connect_ex"), (socket, "getaddrinfo")):
        monkeypatch.setattr(holder, name, refuse)
    return tried


@pytest.fixture(scope="session")
def write_folder():
    """Writes four training and two test PNG files per class; returns their paths below the folder.

    Files whose path begins with one of `grey` have one channel.
    """

    def write(root, shape=(9, 13, 3), classes=("cat", "dog"), grey=()):
        files = [f"train/{name}/{k}.png" for name in classes for k in range(4)]
        files += [f"test/{name}/{k}.png" for name in classes for k in range(2)]
        for seed, file in enumerate(files):
            image = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
            image = image[..., :1] if file.startswith(tuple(grey)) else image
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_bytes(tf.io.encode_png(image).numpy())
        return files

    return write
