"""Connections to TensorFlow Serving over REST or gRPC. TensorFlow is not imported, and no answer is trusted."""

import base64
import http.client
import json
import queue
import re
import struct
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence

from aigan_tf.errors import InputError, graph_refusal

MODEL = "aigan"  # also in serving/models.config
MAX_ANSWER = 2**24  # bytes; a PNG of four million colour pixels, in base64
_MAX_REASON = 300  # characters of what a server says
_TIMED_OUT = "timed out"
_STEPS = {  # by what a refusal names, in the words of `request_checks` or of TensorFlow Serving
    "class_name": "give one of these classes",
    "image_bytes": "give such a picture as `image`",
    "ervable": "give the name it is served under as `model`",
    "any versions": "give the name it is served under as `model`",
}


class NoAnswerError(InputError):
    """Nothing answers at an address."""


class Server:
    """A served model, and its errors; `RestServer` and `GrpcServer` implement the two protocols.

    Args:
        address: HOST:PORT, with or without one of `schemes` before it.
        model: the name it is served under.
        timeout: seconds to wait for a whole answer.

    Raises:
        InputError: the address is not one.
    """

    setting: str  # what messages call the address
    interface: str
    usual_port: int
    schemes: tuple[str, ...]

    def __init__(self, address: str, model: str = MODEL, timeout: float = 60.0):
        self.address = address
        self.model = model
        self.timeout = timeout
        self.scheme, self.place, self.path = self._parsed_address()

    def predict(self, signature: str, inputs: Mapping[str, Sequence]) -> list:
        """Returns the only output of a signature.

        Args:
            signature: its name.
            inputs: name to one value per image: bytes, text or numbers.

        Raises:
            InputError: there is no such server, or it refuses the request.
        """
        raise NotImplementedError

    def signatures(self) -> tuple[str, dict[str, set[str]]]:
        """Returns the model's version, and the names of each signature's inputs.

        Raises:
            InputError: as for `predict`.
        """
        raise NotImplementedError

    def unusable(self, found: str) -> InputError:
        """Returns the error of an answer that a generator served by TensorFlow Serving does not give."""
        fix = f"give the address of its {self.interface} interface, usually port {self.usual_port}"
        return self.error(f"answers with {_shortened(found)}", "TensorFlow Serving with a generator", fix)

    def error(self, problem: str, expected: str, fix: str, kind: type[InputError] = InputError) -> InputError:
        """Returns an error of the address; arguments as of `InputError`."""
        return kind(self.address, expected, fix, setting=self.setting, problem=problem)

    def _request_refused(self, message):
        reason = _shortened(graph_refusal(message))
        fix = next((step for word, step in _STEPS.items() if word in reason), "read the server's log")
        return self.error(f"refuses the request ({reason})", "a request that fits the served generator", fix)

    def _no_answer(self, reason):
        late = _TIMED_OUT in str(reason)
        fix = f"{'raise `timeout`' if late else 'start it there'}, or correct the address"
        problem = f"does not answer ({_shortened(str(reason))})"
        return self.error(problem, "the address of TensorFlow Serving", fix, NoAnswerError)

    def _parsed_address(self):
        """Returns scheme, HOST:PORT and the path before that of TensorFlow Serving."""
        has_scheme = "://" in self.address
        try:
            url = urllib.parse.urlsplit(self.address if has_scheme else f"{self.schemes[0]}://{self.address}")
            port, path = url.port, url.path.rstrip("/")
        except ValueError:  # "[::1", port 99999
            url = None
        if (
            url is None
            or url.scheme not in self.schemes
            or not re.fullmatch(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:\d+)?", url.netloc)
            or not re.fullmatch(r"[A-Za-z0-9_./~-]*", path)
            or "/v1/models" in path
            or (path and self.interface == "gRPC")
            or url.query
            or url.fragment
            or not (has_scheme or port)
        ):
            raise InputError(
                self.address,
                "HOST:PORT or http://HOST:PORT",
                f"give e.g. localhost:{self.usual_port}",
                setting=self.setting,
            )
        return url.scheme, url.netloc, path


class RestServer(Server):
    """TensorFlow Serving's REST interface, in its column format. Arguments as for `Server`."""

    setting, interface, usual_port, schemes = "rest", "REST", 8501, ("http", "https")

    def predict(self, signature: str, inputs: Mapping[str, Sequence]) -> list:
        """See `Server`."""
        encoded = {name: [_encoded(value) for value in values] for name, values in inputs.items()}
        answer = self._ask(":predict", json.dumps({"signature_name": signature, "inputs": encoded}).encode())
        try:
            return [
                base64.b64decode(value["b64"], validate=True) if isinstance(value, dict) else value
                for value in answer["outputs"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise self.unusable("other JSON") from error

    def signatures(self) -> tuple[str, dict[str, set[str]]]:
        """See `Server`."""
        answer = self._ask("/metadata")
        try:
            signatures = answer["metadata"]["signature_def"]["signature_def"]
            found = {name: set(signature["inputs"].keys()) for name, signature in signatures.items()}
            return "" + answer["model_spec"]["version"], found
        except (KeyError, TypeError, AttributeError) as error:
            raise self.unusable("other JSON") from error

    def _ask(self, method, body=None):
        """Returns the JSON value that the server answers."""
        url = f"{self.scheme}://{self.place}{self.path}/v1/models/{urllib.parse.quote(self.model, safe='')}{method}"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            status, location, data = _within(self.timeout, lambda: self._read(request))
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise self._no_answer(getattr(reason, "strerror", None) or reason) from error
        except (http.client.HTTPException, ValueError) as error:
            raise self.unusable("something that is not HTTP") from error
        if len(data) > MAX_ANSWER:
            raise self.unusable(f"more than {MAX_ANSWER >> 20} MiB")
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        message = value.get("error") if isinstance(value, dict) else None
        if status != 200 and isinstance(message, str):
            raise self._request_refused(message)
        if status != 200:
            raise self.unusable(f"status {status}" + (f" and a redirection to {location}" if location else ""))
        return value

    def _read(self, request):
        """Returns status, address of a redirection, and content, of which at most one byte more than `MAX_ANSWER`."""
        try:
            response = _OPENER.open(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            return response.status, response.headers.get("Location"), response.read(MAX_ANSWER + 1)


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """A picture is sent to the server that was named and to no other."""

    def redirect_request(self, *_):
        return None


_OPENER = urllib.request.build_opener(_NoRedirection)


class GrpcServer(Server):
    """TensorFlow Serving's gRPC interface. Arguments as for `Server`."""

    setting, interface, usual_port, schemes = "grpc", "gRPC", 8500, ("http",)

    def __init__(self, address: str, model: str = MODEL, timeout: float = 60.0):
        import grpc

        super().__init__(address, model, timeout)
        self.channel = grpc.insecure_channel(self.place, [("grpc.max_receive_message_length", MAX_ANSWER)])

    def predict(self, signature: str, inputs: Mapping[str, Sequence]) -> list:
        """See `Server`."""
        from aigan_tf.serving import messages

        request = messages.PredictRequest()
        request.model_spec.name = self.model
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            tensor = request.inputs.add(key=name).value
            tensor.tensor_shape.dim.add(size=len(values))
            if isinstance(values[0], int):
                tensor.dtype = messages.DT_INT32
                tensor.int_val.extend(values)
            else:
                tensor.dtype = messages.DT_STRING
                tensor.string_val.extend(value if isinstance(value, bytes) else value.encode() for value in values)
        outputs = self._ask("Predict", request, messages.PredictResponse).outputs
        if len(outputs) != 1:
            raise self.unusable(f"{len(outputs)} outputs")
        tensor = outputs[0].value
        if len(tensor.tensor_shape.dim) == 1:
            size = tensor.tensor_shape.dim[0].size
            if tensor.dtype == messages.DT_STRING and len(tensor.string_val) == size:
                return list(tensor.string_val)
            if tensor.dtype == messages.DT_INT32 and len(tensor.int_val) == size:
                return list(tensor.int_val)
            if tensor.dtype == messages.DT_INT32 and len(tensor.tensor_content) == 4 * size:
                return list(struct.unpack(f"<{size}i", tensor.tensor_content))
        raise self.unusable("another tensor")

    def signatures(self) -> tuple[str, dict[str, set[str]]]:
        """See `Server`."""
        from google.protobuf.message import DecodeError

        from aigan_tf.serving import messages

        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self.model
        answer = self._ask("GetModelMetadata", request, messages.GetModelMetadataResponse)
        try:
            maps = [messages.SignatureDefMap.FromString(entry.value.value) for entry in answer.metadata]
        except DecodeError as error:
            raise self.unusable("another message") from error
        found = {one.key: {entry.key for entry in one.value.inputs} for each in maps for one in each.signature_def}
        return str(answer.model_spec.version.value), found

    def _ask(self, method, request, kind):
        """Returns the message of a `kind` that the server answers."""
        import grpc
        from google.protobuf.message import DecodeError

        call = self.channel.unary_unary(f"/tensorflow.serving.PredictionService/{method}")
        try:
            return kind.FromString(call(request.SerializeToString(), timeout=self.timeout))
        except DecodeError as error:
            raise self.unusable("another message") from error
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise self._no_answer(_TIMED_OUT) from error
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                raise self._no_answer("unavailable") from error
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                raise self.unusable("another service") from error
            raise self._request_refused(error.details()) from error


def _within(seconds: float, call: Callable):
    """Returns what `call` returns.

    Raises:
        TimeoutError: it takes longer. A socket's timeout is one per read, which a server that drips bytes never reaches.
    """
    outcome = queue.SimpleQueue()

    def run():
        try:
            outcome.put((call(), None))
        except Exception as error:
            outcome.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        value, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(_TIMED_OUT) from None
    if error is not None:
        raise error
    return value


def _encoded(value):
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _shortened(text):
    return text if len(text) <= _MAX_REASON else f"{text[: _MAX_REASON // 2]}...{text[-_MAX_REASON // 2 :]}"
