"""What the configuration of a foreign Keras model may name, checked before Keras makes anything of it.

Keras's `safe_mode` refuses Python code alone. Where a function is expected it takes any class or function of Keras: one
that loads a SavedModel, writes a picture, reaches the network or changes Keras's settings. It also compiles an inner
model that was saved compiled, whatever `compile` says.
"""

import importlib

import keras

from aigan_tf.classifiers import limits


def _names(text):
    return {*text.split()}


_DIMENSIONS = (
    "AdaptiveAveragePooling AdaptiveMaxPooling AveragePooling Conv ConvLSTM Cropping GlobalAveragePooling GlobalMaxPooling "
    "MaxPooling SpatialDropout UpSampling ZeroPadding"
)
# Not those that hold code or another library's model, read files (vocabularies), or are only for text.
LAYERS = {f"{kind}{n}D" for kind in _names(_DIMENSIONS) for n in (1, 2, 3)} | {f"Conv{n}DTranspose" for n in (1, 2, 3)}
LAYERS |= {f"{kind}{n}D" for kind in ("DepthwiseConv", "SeparableConv") for n in (1, 2)}
LAYERS |= _names(
    "Activation ActivityRegularization Add AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average "
    "BatchNormalization Bidirectional CategoryEncoding CenterCrop Concatenate ContrastLimitedAdaptiveHistogramEqualization "
    "CutMix Dense Discretization Dot Dropout ELU EinsumDense Embedding Equalization Flatten GRU GRUCell GaussianDropout "
    "GaussianNoise GroupNormalization GroupQueryAttention Identity InputLayer LSTM LSTMCell LayerNormalization LeakyReLU "
    "Masking Maximum MelSpectrogram Minimum MixUp MultiHeadAttention Multiply Normalization PReLU Permute Pipeline "
    "RMSNormalization RNN RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop "
    "RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue RandomInvert "
    "RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation "
    "RandomZoom ReLU RepeatVector Rescaling Reshape Resizing ReversibleEmbedding STFTSpectrogram SimpleRNN SimpleRNNCell "
    "Softmax Solarization SpectralNormalization StackedRNNCells Subtract TimeDistributed UnitNormalization"
)  # fmt: skip
MODELS = {"Functional", "Model", "Sequential"}
POLICIES = {
    "DTypePolicy", "DTypePolicyMap", "FloatDTypePolicy", "Int4DTypePolicy", "QuantizedDTypePolicy",
    "QuantizedFloat8DTypePolicy",
}  # fmt: skip
_CORE_OPERATIONS = {  # those that take no function
    "Cast", "ConvertToTensor", "SaturateCast", "Scatter", "ScatterUpdate", "Slice", "SliceUpdate", "StopGradient", "Unstack",
}  # fmt: skip
CLASSES = {  # by the module that a configuration names
    "keras": MODELS | POLICIES,
    "keras.models": MODELS,
    "keras.src.models.functional": MODELS,
    "keras.src.models.model": MODELS,
    "keras.src.models.sequential": MODELS,
    "keras.layers": LAYERS,
    "keras.dtype_policies": POLICIES,
    "keras.initializers": _names(
        "Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform Ones Orthogonal "
        "RandomNormal RandomUniform STFT TruncatedNormal VarianceScaling Zeros"
    ),
    "keras.regularizers": {"L1", "L1L2", "L2", "OrthogonalRegularizer"},
    "keras.constraints": {"MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"},
    "keras.quantizers": {
        "AbsMaxQuantizer", "Float8QuantizationConfig", "Int4QuantizationConfig", "Int8QuantizationConfig",
    },
    "keras.random": {"SeedGenerator"},
    "keras.src.applications.convnext": {"LayerScale", "StochasticDepth"},
    "keras.src.applications.inception_resnet_v2": {"CustomScaleLayer"},
    "keras.src.ops.core": _CORE_OPERATIONS,
}  # fmt: skip
CLASSES[None] = set.union(*CLASSES.values())  # Keras 2 wrote no module
# Of these modules every operation, but those that take a function, or whose output is as large as a value says.
OPERATIONS = {f"keras.src.ops.{name}" for name in ("einops", "image", "linalg", "math", "nn", "numpy")}
NO_OPERATIONS = {"Arange", "Bincount", "JVP"}
FUNCTION_MODULES = {None, "builtins", "keras.activations", "keras.ops", "keras.ops.nn"}
FUNCTIONS = _names(
    "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid "
    "log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid "
    "sparsemax squareplus swish tanh tanh_shrink threshold"
)  # fmt: skip
VALUES = {
    "TensorShape", "__bytes__", "__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__", "__tuple__",
}  # fmt: skip
LEFT_OUT = {"compile_config"}
# A layer with a state remembers the last batch; an unrolled one writes each step of a sequence into the graph.
LEFT_OUT_OF_RECURRENT = {"stateful", "unroll"}


def checked(config: object) -> object:
    """Returns a model's configuration, as JSON gives it, without what is left out of it.

    Raises:
        ValueError: it is not a dictionary, names a class or function that is neither allowed nor registered by the user's
            own Python, or asks for more than `limits` has.
    """
    if not isinstance(config, dict):
        raise ValueError("its configuration is not that of a model")
    # This package registers its networks, which no classifier needs.
    registry = keras.saving.get_custom_objects()
    return _Check({name for name, kind in registry.items() if not str(kind.__module__).startswith("aigan_tf.")})(config)


class _Check:
    """Checks a configuration, part by part."""

    def __init__(self, registered: set[str]):
        self.registered = registered
        self.parts = 0

    def __call__(self, value, key=None):
        """Returns a part, found under `key`, without what is left out."""
        if isinstance(value, list):
            return [self(each, key) for each in value]
        if key in limits.COUNTS and isinstance(value, int) and abs(value) > limits.MAX_COUNT:
            raise ValueError(f"it asks for {key}={value}, above {limits.MAX_COUNT:,}")
        if not isinstance(value, dict):
            return value
        if "class_name" in value:
            self._check_part(value)
        left_out = LEFT_OUT
        if "return_sequences" in value:
            left_out = LEFT_OUT | {key for key in LEFT_OUT_OF_RECURRENT if value.get(key)}
        return {key: self(each, key) for key, each in value.items() if key not in left_out}

    def _check_part(self, part):
        self.parts += 1
        if self.parts > limits.MAX_PARTS:
            raise ValueError(f"it asks for more than {limits.MAX_PARTS:,} parts")
        if not _is_allowed(part, self.registered):
            name = part.get("config") if part["class_name"] == "function" else part["class_name"]
            full = f"{part['module']}.{name}" if part.get("module") else name
            raise ValueError(
                f"it names {full}, which is neither registered nor one of the parts of Keras that are loaded"
            )
        nodes = part.get("inbound_nodes", ())
        if any(isinstance(node, dict) and not _has_tensor([*node.values()]) for node in nodes):
            raise ValueError(f"it asks for {part['class_name']} of constants, which is computed while it is loaded")


def _has_tensor(value):
    """Whether arguments of a layer hold a tensor of the model, where Keras looks for one."""
    if isinstance(value, dict):
        return value.get("class_name") == "__keras_tensor__" or (
            "class_name" not in value and _has_tensor([*value.values()])
        )
    return isinstance(value, list) and any(map(_has_tensor, value))


def _is_allowed(named, registered):
    """Whether a dictionary with a class_name stands for something allowed, in Keras's order of looking it up."""
    name, module = named["class_name"], named.get("module")
    if name == "function":
        function = named.get("config")
        own = {*registered, *(each.rpartition(">")[2] for each in registered)}  # Keras up to 3.6 saved the last part
        return function in own or (module in FUNCTION_MODULES and function in FUNCTIONS)
    # In HDF5 Keras may look a name up among its layers, whatever module or registered name stands beside it.
    if named.get("registered_name", name) in registered or (module is None and name in registered):
        return name in LAYERS or not hasattr(keras.layers, name)
    return name in VALUES or name in CLASSES.get(module, ()) or (module in OPERATIONS and _is_operation(module, name))


def _is_operation(module, name):
    if name in NO_OPERATIONS:
        return False
    kind = getattr(importlib.import_module(module), name, None)
    return isinstance(kind, type) and issubclass(kind, keras.Operation) and kind.__module__ == module
