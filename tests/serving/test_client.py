"""The exported generator behind TensorFlow Serving's protocols, and the client that talks to it."""

import base64
import contextlib
import copy
import io
import itertools
import json
import random
import socket
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
import serving_double
from commands import run_in_process
from PIL import Image
from served_example import files, pictures

from aigan_tf import cli
from aigan_tf.errors import InputError
from aigan_tf.serving import client, messages
from aigan_tf.serving.connections import MAX_ANSWER, GrpcServer, RestServer


@pytest.fixture(scope="module")
def rest(model):
    with serving_double.rest_server(model) as address:
        yield address


@pytest.fixture(scope="module")
def grpc(model):
    with serving_double.grpc_server(model) as address:
        yield address


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command and returns its exit status and the line it prints."""
    (tmp_path / "cat.png").write_bytes(files(1)[0])

    def run(*given):
        status = run_in_process(cli.client, f"--image={tmp_path}/cat.png", f"--out={tmp_path}/adv.png", *given)
        shown = capsys.readouterr()
        assert (shown.out + shown.err).count("\n") == 1
        return status, shown.out + shown.err

    return run


@pytest.mark.parametrize(
    ("protocol", "form"), [("rest", "{}"), ("rest", "http://{}/"), ("grpc", "{}"), ("grpc", "http://{}")]
)
def test_the_client_writes_the_image_that_the_model_makes(protocol, form, request, model, run, tmp_path):
    status, line = run(f"--{protocol}={form.format(request.getfixturevalue(protocol))}", "--target=a ship")
    assert status == 0
    expected = model.run("encoded", {"image_bytes": files(1), "target_class": [2]})["adversarial_image_bytes"][0]
    assert (tmp_path / "adv.png").read_bytes() == expected
    change = np.asarray(Image.open(io.BytesIO(expected))) - pictures(1)[0].astype(int)
    assert f"{abs(change).max()}/255" in line
    assert f"{np.linalg.norm(change / 255):.2f}" in line
    assert "13 x 9" in line


def test_the_grpc_form_does_not_import_tensorflow(grpc, tmp_path):
    (tmp_path / "cat.png").write_bytes(files(1)[0])
    code = "import sys; sys.modules['tensorflow'] = None; from aigan_tf import cli; cli.client()"
    given = [f"--grpc={grpc}", "--target=dog", f"--image={tmp_path}/cat.png", f"--out={tmp_path}/adv.png"]
    subprocess.run([sys.executable, "-c", code, *given], check=True)
    assert (tmp_path / "adv.png").exists()


@pytest.mark.parametrize(
    ("side", "target", "words"),
    [
        (9, "wolf", ["cat, dog"]),
        (9, "4294967297", ["0 to 4"]),  # 1 in 32 bits
        (8, "dog", ["9 x 13", "8 13", "image"]),
    ],
)
def test_the_client_passes_a_refusal_on_in_one_line(side, target, words, rest, grpc):
    for server in (RestServer(rest), GrpcServer(grpc)):
        with pytest.raises(InputError) as caught:
            client.attack_image(server, np.zeros((side, 13, 3), np.uint8), target)
        assert caught.value.setting == server.setting
        assert "\n" not in str(caught.value)
        assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("setting", "value"),
    [("rest", address) for address in (
        "[::1", "localhost:99999", "localhost", "local host:8501", "hö:8501", "ftp://localhost:8501", "a@b:8501",
        "http://localhost:8501/v1/models/aigan", "localhost:8501/x", "http://[:8501", "http://localhost:8501?x", "")]
    + [("grpc", "https://localhost:8500"), ("grpc", "[::1"), ("out", "adv.jpg"), ("out", "adv"), ("image", "missing.png"),
       ("image", __file__), ("timeout", "0")],
)  # fmt: skip
def test_a_wrong_argument_is_refused_before_asking(setting, value, run, tmp_path):
    given = ["--target=dog", f"--{setting}={value}"] + ([] if setting in ("rest", "grpc") else ["--rest=localhost:9"])
    status, line = run(*given)
    assert status == 2
    assert line.startswith(f"error: --{setting}={value}" if setting != "image" else f"error: {value}")
    assert not (tmp_path / "adv.png").exists()


def refusal(server):
    """The problem of a request for an adversarial image."""
    with pytest.raises(InputError) as caught:
        client.attack_image(server, pictures(1)[0], "dog")
    assert (caught.value.setting, caught.value.received) == (server.setting, server.address)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 900
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [(200, body, "answers with") for body in ("<html>", "[1]", '{"outputs": []}', '{"outputs": 3}', '{"outputs": [true]}',
     '{"outputs": ["abc"]}', '{"outputs": [{"b64": "a"}]}', '{"outputs": [{"x": 1}]}', "[" * 10**6, '{"a":' * 10**6,
     '{"outputs": [' + "9" * 5000)]
    + [(404, body, "status 404") for body in ('{"error": {"code": 404}}', '{"error": null}', "[]", "no JSON")]
    + [(400, json.dumps({"error": "\x1b[31m" + "z" * 10**6}), "refuses")],
)  # fmt: skip
def test_the_client_names_a_server_that_answers_something_else(status, body, word):
    with serving_double.http_server(lambda path, request: (status, body.encode())) as address:
        assert word in refusal(RestServer(address)).problem


@contextlib.contextmanager
def raw_server(head, piece):
    """Yields HOST:PORT of a server that sends a head and then pieces without end."""

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection = listening.accept()[0]
                with connection, contextlib.suppress(OSError):
                    connection.recv(65536)
                    connection.sendall(head)
                    while piece:
                        connection.sendall(piece)
                        closed.wait(0.02 if len(piece) == 1 else 0)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):  # closed with the request unread, it would be reset
                        pass

    closed = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("head", "piece", "word"),
    [
        (HEAD + b"\r\n", b" " * 2**16, f"{MAX_ANSWER >> 20} MiB"),
        (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
            b"10000\r\n" + b"[" * 2**16 + b"\r\n",
            f"{MAX_ANSWER >> 20} MiB",
        ),
        (HEAD + b"Content-Length: 9999\r\n\r\n", b" ", "timed out"),
        (HEAD + b"X: ", b"1", "timed out"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n", b"", "127.0.0.1:9"),
        (b"\x00\xff\xfe" * 99, b"", "HTTP"),
        (b"", b"", "without response"),
    ],
)
def test_an_endless_slow_or_moved_answer_ends(head, piece, word):
    with raw_server(head, piece) as address:
        assert word in refusal(RestServer(address, timeout=0.5 if len(piece) == 1 else 20)).problem


def test_the_client_names_a_server_that_does_not_answer(rest, grpc):
    for server in (
        RestServer("127.0.0.1:9", timeout=5),
        GrpcServer("127.0.0.1:9", timeout=2),
        GrpcServer(rest, timeout=2),
    ):
        assert "does not answer" in refusal(server).problem
    assert "8501" in refusal(RestServer(grpc, timeout=5)).fix  # a port of the other protocol
    for server in (RestServer(rest, "other"), GrpcServer(grpc, "other")):
        error = refusal(server)
        assert "Servable not found" in error.problem
        assert "`model`" in error.fix


def test_another_model_or_an_older_export_is_named(model):
    older = copy.copy(model)
    signatures = {name: made for name, made in model.loaded.signatures.items() if name != "class_number"}
    older.loaded = types.SimpleNamespace(signatures=signatures)
    with serving_double.rest_server(older) as rest, serving_double.grpc_server(older) as grpc:
        for server in (RestServer(rest), GrpcServer(grpc)):
            error = refusal(server)
            assert "older export" in error.problem
            assert "version 1" in error.problem
            assert "class_number" in error.expected
            assert "export" in error.fix


def test_the_kind_of_the_generator_is_named(rest, grpc, run):
    for address in (f"--rest={rest}", f"--grpc={grpc}"):
        status, line = run(address, "--label=dog")
        assert status == 2
        assert line.rstrip().endswith("give the class as --target")


def png(size=(13, 9), mode="RGB", form="PNG"):
    file = io.BytesIO()
    Image.new(mode, size).save(file, form)
    return file.getvalue()


def tensor(**fields):
    """A PredictResponse of one tensor with one item."""
    response = messages.PredictResponse()
    value = response.outputs.add(key="x").value
    value.tensor_shape.dim.add(size=1)
    for name, given in fields.items():
        getattr(value, name).append(given) if name.endswith("_val") else setattr(value, name, given)
    return response.SerializeToString()


def json_of(value):
    value = {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
    return json.dumps({"outputs": [value]}).encode()


def asked(protocol, number, picture):
    """What the client makes of two answers, without a network."""
    answers = [number, picture]
    if protocol == "rest":
        server = RestServer("localhost:1")
        server._read = lambda request: (200, None, answers.pop(0) if answers else b"")
    else:
        server = GrpcServer("localhost:1")
        call = lambda request, timeout: answers.pop(0) if answers else b""  # noqa: E731
        server.channel = types.SimpleNamespace(unary_unary=lambda method: call)
    return client.attack_image(server, pictures(1)[0], "dog")


NUMBER = {"rest": json_of(1), "grpc": tensor(dtype=messages.DT_INT32, int_val=1)}


def pictured(protocol, file):
    return json_of(file) if protocol == "rest" else tensor(dtype=messages.DT_STRING, string_val=file)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_an_answer_that_is_no_picture_of_that_size_is_refused(protocol):
    assert asked(protocol, NUMBER[protocol], pictured(protocol, png())) == png()
    wrong = [b"", b"GIF89a", png()[:60], png()[:-5], png((9, 13)), png((9, 3000)), png(mode="RGBA"), png(form="JPEG")]
    for file in wrong:
        with pytest.raises(InputError):
            asked(protocol, NUMBER[protocol], pictured(protocol, file))


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_mutated_answer_is_an_error_or_a_picture(protocol):
    draw = random.Random(0)
    refused = []
    for turn, length in itertools.product(range(60), (1, 3, 40)):
        answers = [NUMBER[protocol], pictured(protocol, png())]
        body = bytearray(answers[turn % 2])
        start = draw.randrange(len(body))
        body[start : start + draw.choice((0, length))] = draw.choice(
            (draw.randbytes(length), b"[" * length, b"-1", b"")
        )
        answers[turn % 2] = bytes(body)
        try:
            made = asked(protocol, *answers)
            assert Image.open(io.BytesIO(made)).size == (13, 9)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 90
    assert all(line.isprintable() for line in refused)
