"""TensorFlow Serving's messages, the fields used here: its own package imports TensorFlow, which takes seconds.

Names and numbers of fields are those of tensorflow_serving/apis/*.proto and tensorflow/core/framework/*.proto. A map is
written as what it is on the wire, a list of entries with `key` and `value`.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DT_INT32, DT_STRING = 3, 7

_FIELDS = {
    "Dim": "1 int64 size",
    "TensorShape": "2 Dim* dim",
    "Tensor": "1 int32 dtype, 2 TensorShape tensor_shape, 4 bytes tensor_content, 7 int32* int_val, 8 bytes* string_val",
    "TensorEntry": "1 string key, 2 Tensor value",
    "Int64Value": "1 int64 value",
    "ModelSpec": "1 string name, 2 Int64Value version, 3 string signature_name",
    "PredictRequest": "1 ModelSpec model_spec, 2 TensorEntry* inputs",
    "PredictLog": "1 PredictRequest request",
    "PredictionLog": "6 PredictLog predict_log",
    "PredictResponse": "1 TensorEntry* outputs",
    "GetModelMetadataRequest": "1 ModelSpec model_spec, 2 string* metadata_field",
    "Any": "2 bytes value",
    "AnyEntry": "1 string key, 2 Any value",
    "GetModelMetadataResponse": "1 ModelSpec model_spec, 2 AnyEntry* metadata",
    "TensorInfoEntry": "1 string key",
    "SignatureDef": "1 TensorInfoEntry* inputs",
    "SignatureDefEntry": "1 string key, 2 SignatureDef value",
    "SignatureDefMap": "1 SignatureDefEntry* signature_def",
}


def _file():
    """Returns the descriptor of all messages, in a package of its own."""
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="aigan_tf/serving.proto", package="aigan_tf", syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, kind, field in map(str.split, fields.split(",")):
            kind, repeated = kind.removesuffix("*"), kind.endswith("*")
            added = message.field.add(name=field, number=int(number))
            added.label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            if kind in _FIELDS:
                added.type, added.type_name = field_type.TYPE_MESSAGE, f".aigan_tf.{kind}"
            else:
                added.type = field_type.Type.Value(f"TYPE_{kind.upper()}")
    return file


_pool = descriptor_pool.DescriptorPool()  # not the default one, where TensorFlow registers the whole messages
_pool.Add(_file())


def _message(name):
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"aigan_tf.{name}"))


PredictionLog = _message("PredictionLog")
PredictRequest = _message("PredictRequest")
PredictResponse = _message("PredictResponse")
GetModelMetadataRequest = _message("GetModelMetadataRequest")
GetModelMetadataResponse = _message("GetModelMetadataResponse")
SignatureDefMap = _message("SignatureDefMap")
