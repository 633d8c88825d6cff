"""A small client of a served generator: python -m aigan_tf.serving.client --rest=localhost:8501 --image=cat.png --target=dog --out=adv.png"""

import base64
import http.client
import json
import pathlib
import urllib.error
import urllib.request

from absl import flags

from aigan_tf.errors import InputError, graph_refusal
from aigan_tf.files import user_path, write_bytes
from aigan_tf.flags import define, run

MODEL = "aigan"


class RestServer:
    """TensorFlow Serving's REST interface, in its column format.

    Args:
        address: HOST:PORT.
        model: the name it is served under.
        timeout: seconds to wait for an answer.
    """

    def __init__(self, address: str, model: str = MODEL, timeout: float = 60.0):
        self.flag = f"--rest={address}"
        self.url = f"http://{address}/v1/models/{model}:predict"
        self.timeout = timeout

    def predict(self, signature: str, inputs: dict[str, list]) -> list:
        """Returns the only output of a signature.

        Args:
            signature: its name.
            inputs: name to one value an image: bytes, text or numbers.

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
            raise _request_refused(self.flag, _message(error)) from error
        except (OSError, http.client.InvalidURL) as error:
            reason = getattr(error, "reason", error)
            raise _no_answer(self.flag, getattr(reason, "strerror", None) or reason) from error
        except (http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            raise _not_tf_serving(self.flag) from error


class GrpcServer:
    """TensorFlow Serving's gRPC interface; needs the package tensorflow-serving-api.

    Args:
        address, model, timeout: as for `RestServer`.
    """

    def __init__(self, address: str, model: str = MODEL, timeout: float = 60.0):
        try:
            import grpc
            from tensorflow_serving.apis import prediction_service_pb2_grpc
        except ImportError as error:
            raise InputError(
                "--grpc needs tensorflow-serving-api, which is not installed; expected it: pip install "
                "tensorflow-serving-api, or use --rest"
            ) from error
        self.flag = f"--grpc={address}"
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
                raise _no_answer(self.flag, error.code().name.lower()) from error
            raise _request_refused(self.flag, error.details()) from error
        if len(outputs) != 1:
            raise _not_tf_serving(self.flag)
        (output,) = outputs.values()
        return tf.make_ndarray(output).tolist()


def attack_image(
    server: RestServer | GrpcServer, image: bytes, target: str, class_input: str = "target_class"
) -> bytes:
    """Returns the adversarial picture, a PNG file, that a served generator makes of a picture.

    Args:
        server: where it is served.
        image: a PNG or JPEG file of the size the generator was trained for.
        target: name or number of the class to reach (or to leave, of an untargeted generator).
        class_input: "target_class", or "label" of an untargeted generator.

    Raises:
        InputError: the server does not answer, or refuses the request.
    """
    # Always asked for: only the model knows which of its classes are named by digits.
    number = _only(server, int, "class_number", {"class_name": [target]})
    return _only(server, bytes, "encoded", {"image_bytes": [image], class_input: [number]})


def _only(server, kind, signature, inputs):
    values = server.predict(signature, inputs)
    if len(values) != 1 or not isinstance(values[0], kind):
        raise _not_tf_serving(server.flag)
    return values[0]


def _encoded(value):
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _message(error):
    body = error.read().decode(errors="replace")
    try:
        message = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        message = None
    return message if isinstance(message, str) else f"status {error.code}"  # another server's may be anything


def _request_refused(flag, message):
    return InputError(
        f"{flag} refuses the request: {graph_refusal(message)}; expected one that the served generator takes: correct it"
    )


def _no_answer(flag, reason):
    return InputError(
        f"{flag} does not answer ({reason}); expected HOST:PORT of a TensorFlow Serving: start it or correct the address"
    )


def _not_tf_serving(flag):
    return InputError(f"{flag} does not answer as TensorFlow Serving does; expected its address: correct it")


def main() -> None:
    """python -m aigan_tf.serving.client, or aigan-client"""
    define(str, "rest", None, "HOST:PORT of TensorFlow Serving's REST interface (usually 8501)")
    define(str, "grpc", None, "HOST:PORT of its gRPC interface, in place of --rest (usually 8500)")
    define(str, "model", MODEL, "name the generator is served under")
    define(str, "image", None, "PNG or JPEG file to attack", "none, it must be given")
    define(str, "target", None, "class the classifier shall answer, by name or number")
    define(str, "label", None, "true class, in place of --target where the generator is untargeted")
    define(str, "out", None, "PNG file to write the adversarial picture to", "none, it must be given")
    define(float, "timeout", 60.0, "seconds to wait for an answer", lower_bound=0.001, upper_bound=1e6)

    def attack():
        """Asks a served generator for the adversarial picture of a picture.

        aigan-client --rest=localhost:8501 --image=cat.png --target=dog --out=adv.png
        """
        values = flags.FLAGS
        for one, other in (("rest", "grpc"), ("target", "label")):
            if bool(values[one].value) == bool(values[other].value):
                given = "both" if values[one].value else "neither"
                raise InputError(f"{given} of --{one} and --{other} given; expected one of them: see --help")
        for name in ("image", "out"):
            if not values[name].value:
                raise InputError(f"--{name} is not given; expected a file: see --help")
        try:
            image = user_path(values.image).read_bytes()
        except OSError as error:
            raise InputError(
                f"--image={values.image} cannot be read ({error.strerror}); expected a PNG or JPEG file: correct the path"
            ) from error
        server = RestServer if values.rest else GrpcServer
        adversarial = attack_image(
            server(values.rest or values.grpc, values.model, values.timeout),
            image,
            values.target or values.label,
            "target_class" if values.target else "label",
        )
        out = pathlib.Path(user_path(values.out))
        write_bytes(out, adversarial)
        print(f"Adversarial picture written to {out}.")

    run(attack)


if __name__ == "__main__":
    main()
