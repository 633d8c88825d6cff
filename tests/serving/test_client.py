"""The exported generator behind TensorFlow Serving's protocols, and the client that talks to it."""

import numpy as np
import pytest
import serving_double
import tensorflow as tf
from commands import run_in_process
from served_example import files, pictures

from aigan_tf import cli
from aigan_tf.errors import InputError
from aigan_tf.serving import client


@pytest.fixture(scope="module")
def rest(model):
    with serving_double.rest_server(model) as address:
        yield address


@pytest.fixture(scope="module")
def grpc(model):
    with serving_double.grpc_server(model) as address:
        yield address


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_client_writes_the_image_that_the_model_makes(protocol, request, model, tmp_path, capsys):
    (tmp_path / "cat.png").write_bytes(files(1)[0])
    address = f"--{protocol}={request.getfixturevalue(protocol)}"
    given = [address, f"--image={tmp_path}/cat.png", "--target=a ship", f"--out={tmp_path}/adv.png"]
    assert run_in_process(cli.client, *given) == 0
    assert "adv.png" in capsys.readouterr().out
    expected = model.run("encoded", {"image_bytes": files(1), "target_class": [2]})["adversarial_image_bytes"][0]
    assert (tmp_path / "adv.png").read_bytes() == expected


@pytest.mark.parametrize(
    ("image", "target", "words"),
    [
        (files(1)[0], "wolf", ["cat, dog", "wolf"]),
        (files(1)[0], "4294967297", ["0 to 4", "4294967297"]),  # 1 in 32 bits
        (tf.io.encode_png(np.zeros((8, 8, 3), np.uint8)).numpy(), "dog", ["9 x 13", "8 8"]),
        (files(1)[0][:50], "dog", ["Invalid PNG"]),
        (tf.io.encode_jpeg(pictures(1)[0]).numpy()[:-40], "dog", ["Invalid JPEG"]),
    ],
)
def test_the_client_passes_a_refusal_on_in_one_line(image, target, words, rest, grpc):
    for server in (client.RestServer(rest), client.GrpcServer(grpc)):
        with pytest.raises(InputError) as caught:
            client.attack_image(server, image, target)
        assert caught.value.setting == server.setting
        assert "\n" not in str(caught.value)
        assert all(word in str(caught.value) for word in words), caught.value


def refusal(server):
    """The error of a request for an adversarial image."""
    with pytest.raises(InputError) as caught:
        client.attack_image(server, files(1)[0], "dog")
    assert (caught.value.setting, caught.value.received) == (server.setting, server.address)
    assert str(caught.value).isprintable()
    return caught.value.problem


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [(200, body, "TensorFlow Serving") for body in ("<html>", "[1]", '{"outputs": []}', '{"outputs": 3}',
     '{"outputs": ["abc"]}', '{"outputs": [{"b64": "a"}]}', '{"outputs": [{"x": 1}]}')]
    + [(404, body, "status 404") for body in ('{"error": {"code": 404}}', '{"error": null}', "[]", "no JSON")],
)  # fmt: skip
def test_the_client_names_a_server_that_answers_something_else(status, body, word):
    with serving_double.http_server(lambda path, request: (status, body.encode())) as address:
        assert word in refusal(client.RestServer(address))


def test_the_client_names_a_server_that_does_not_answer(rest, grpc):
    for server in (
        client.RestServer("127.0.0.1:9", timeout=5),
        client.GrpcServer("127.0.0.1:9", timeout=2),
        client.RestServer(grpc, timeout=5),  # a port of the other protocol
        client.GrpcServer(rest, timeout=2),
    ):
        assert "does not answer" in refusal(server)
    for server in (client.RestServer(rest, "other"), client.GrpcServer(grpc, "other")):
        assert "Servable not found" in refusal(server)
