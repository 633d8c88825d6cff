"""A client of a served generator, over REST or gRPC. TensorFlow is imported only for gRPC."""

import base64
import http.client
import json
import os
import urllib.error
import urllib.request

from aigan_tf.errors import InputError, graph_refusal
from aigan_tf.files import user_path

MODEL = "aigan"  # also in serving/models.config


class RestServer:
    """TensorFlow Serving's REST interface, in its column format.

    Args:
        address: HOST:PORT.
        model: the name it is served under.
        timeout: seconds to wait for an answer.
    """

    setting = "rest"  # what messages call the address

    def __init__(self, address: str, model: str = MODEL, timeout: float = 60.0):
        self.address = address
        self.url = f"http://{address}/v1/models/{model}:predict"
        self.timeout = timeout

    def predict(self, signature: str, inputs: dict[str, list]) -> list:
        """Returns the only output of a signature.

        Args:
            signature: its name.
            inputs: name to one value per image: bytes, text or numbers.

        Raises:
            InputError: there is no such server, or it refuses the request.
        """
        encoded = {name: [_encoded(value) for value in values] for name, values in inputs.items()}
        body = json.dumps({"signature_name": signature, "inputs": encoded}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                outputs = json.load(response)["outputs"]
            return [base64.b64decode(value["b64"]) if isinstance(value, dict) else value for value in outputs]
        except urllib.error.HTTPError as error:
            raise _request_refused(self, _error_message(error)) from error
        except (OSError, http.client.InvalidURL) as error:
            reason = getattr(error, "reason", error)
            raise _no_answer(self, getattr(reason, "strerror", None) or reason) from error
        except (http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            raise _not_tf_serving(self) from error


class GrpcServer:
    """TensorFlow Serving's gRPC interface.

    Args:
        address, model, timeout: as for `RestServer`.

    Raises:
        InputError: the package tensorflow-serving-api is not installed.
    """

    setting = "grpc"

    def __init__(self, address: str, model: str = MODEL, timeout: float = 60.0):
        try:
            import grpc
            from tensorflow_serving.apis import prediction_service_pb2_grpc
        except ImportError as error:
            raise InputError(
                address,
                "the package tensorflow-serving-api",
                "run pip install tensorflow-serving-api, or use `rest`",
                setting=self.setting,
                problem="needs a package that is not installed",
            ) from error
        self.address = address
        self.model = model
        self.timeout = timeout
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(address))

    def predict(self, signature: str, inputs: dict[str, list]) -> list:
        """As `RestServer.predict`."""
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            dtype = tf.int32 if isinstance(values[0], int) else tf.string
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype))
        try:
            outputs = self.stub.Predict(request, timeout=self.timeout).outputs
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise _no_answer(self, error.code().name.lower()) from error
            raise _request_refused(self, error.details()) from error
        if len(outputs) != 1:
            raise _not_tf_serving(self)
        (output,) = outputs.values()
        return tf.make_ndarray(output).tolist()


def attack_image(
    server: RestServer | GrpcServer, image: bytes, target: str, class_input: str = "target_class"
) -> bytes:
    """Returns the adversarial image, a PNG file, that a served generator makes of an image file.

    Args:
        server: where the generator is served.
        image: a PNG or JPEG file of the size the generator was trained for.
        target: name or number of the class to reach (or to leave, if the generator is untargeted).
        class_input: "target_class", or "label" if the generator is untargeted.

    Raises:
        InputError: the server does not answer, or refuses the request.
    """
    # Asked even for a number: only the model knows which of its classes are named by digits.
    number = _only_output(server, int, "class_number", {"class_name": [target]})
    return _only_output(server, bytes, "encoded", {"image_bytes": [image], class_input: [number]})


def read_image(path: str | os.PathLike) -> bytes:
    """Returns the content of an image file, not decoded.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return user_path(path).read_bytes()
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise InputError(path, "a PNG or JPEG file", "correct the path", setting="image", problem=problem) from error


def _only_output(server, kind, signature, inputs):
    """Returns the only value of a signature's only output, of the type `kind`."""
    values = server.predict(signature, inputs)
    if len(values) != 1 or not isinstance(values[0], kind):
        raise _not_tf_serving(server)
    return values[0]


def _encoded(value):
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _error_message(error):
    """Returns TensorFlow Serving's message in an HTTP error; if another server sent it, the status."""
    body = error.read().decode(errors="replace")
    try:
        message = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        message = None
    return message if isinstance(message, str) else f"status {error.code}"


def _request_refused(server, message):
    return InputError(
        server.address,
        "a request that fits the served generator",
        "correct it",
        setting=server.setting,
        problem=f"refuses the request ({graph_refusal(message)})",
    )


def _no_answer(server, reason):
    return InputError(
        server.address,
        "HOST:PORT of TensorFlow Serving",
        "start it, or correct the address",
        setting=server.setting,
        problem=f"does not answer ({reason})",
    )


def _not_tf_serving(server):
    return InputError(
        server.address,
        "HOST:PORT of TensorFlow Serving",
        "correct the address",
        setting=server.setting,
        problem="does not answer as TensorFlow Serving does",
    )
