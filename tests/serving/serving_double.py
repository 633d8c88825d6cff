"""A stand-in for tensorflow_model_server, which pip cannot install: its documented protocols, on loopback.

REST as TFX Serving's page "RESTful API" describes it: column format ("inputs" to "outputs"), base64 as {"b64": ...},
outputs whose names end in _bytes as base64, errors as {"error": ...}. gRPC by the official messages and service.
"""

import base64
import contextlib
import http.server
import json
import threading
from concurrent import futures

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

REFUSALS = (tf.errors.OpError, KeyError, ValueError, TypeError)


class Model:
    """A SavedModel under a name, run by signature."""

    def __init__(self, path, name="aigan"):
        self.name = name
        self.loaded = tf.saved_model.load(str(path))

    def specs(self, signature):
        if signature not in self.loaded.signatures:
            raise KeyError(f'Serving signature key "{signature}" not found.')
        return self.loaded.signatures[signature].structured_input_signature[1]

    def inputs(self):
        """The names of each signature's inputs, as metadata has them."""
        return {name: list(self.specs(name)) for name in self.loaded.signatures}

    def run(self, signature, inputs):
        specs = self.specs(signature)
        if set(inputs) != set(specs):
            raise ValueError(f"input names are {sorted(inputs)}, the signature has {sorted(specs)}")
        # A protobuf tensor has a dtype of its own, a JSON list takes the signature's.
        tensors = {
            name: tf.constant(value, None if isinstance(value, np.ndarray) else specs[name].dtype)
            for name, value in inputs.items()
        }
        return {name: value.numpy() for name, value in self.loaded.signatures[signature](**tensors).items()}


def decoded(value):
    if isinstance(value, dict):
        return base64.b64decode(value["b64"]) if value.keys() == {"b64"} else {k: decoded(v) for k, v in value.items()}
    return [decoded(item) for item in value] if isinstance(value, list) else value


def rest_server(model):
    """A context that yields HOST:PORT; it answers for signatures of one output, whose name TFX Serving leaves out."""

    def respond(path, request):
        if path == f"/v1/models/{model.name}/metadata":
            signatures = {name: {"inputs": {key: {} for key in inputs}} for name, inputs in model.inputs().items()}
            metadata = {"signature_def": {"signature_def": signatures}}
            return 200, json.dumps({"model_spec": {"version": "1"}, "metadata": metadata}).encode()
        if path != f"/v1/models/{model.name}:predict":
            return 404, json.dumps({"error": f"Servable not found: {path}"}).encode()
        try:
            body = json.loads(request)
            ((name, output),) = model.run(body["signature_name"], decoded(body["inputs"])).items()
            values = output.tolist()
            if name.endswith("_bytes"):
                values = [{"b64": base64.b64encode(value).decode()} for value in values]
            return 200, json.dumps({"outputs": values}).encode()
        except REFUSALS as error:
            return 400, json.dumps({"error": getattr(error, "message", str(error))}).encode()

    return http_server(respond)


@contextlib.contextmanager
def http_server(respond):
    """Yields HOST:PORT; `respond` turns a path and the bytes of a request into a status and bytes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            status, data = respond(self.path, self.rfile.read(int(self.headers["Content-Length"] or 0)))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@contextlib.contextmanager
def grpc_server(model):
    """Yields HOST:PORT."""

    class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            spec = request.model_spec
            if spec.name != model.name:
                context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found: {spec.name}")
            try:
                inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
                outputs = model.run(spec.signature_name or "serving_default", inputs)
            except REFUSALS as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, getattr(error, "message", str(error)))
            response = predict_pb2.PredictResponse()
            for name, value in outputs.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return response

        def GetModelMetadata(self, request, context):
            if request.model_spec.name != model.name or list(request.metadata_field) != ["signature_def"]:
                context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found: {request.model_spec.name}")
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, inputs in model.inputs().items():
                for key in inputs:
                    signatures.signature_def[name].inputs[key].dtype = 1
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.version.value = 1
            response.metadata["signature_def"].Pack(signatures)
            return response

    server = grpc.server(futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
