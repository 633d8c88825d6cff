"""The graph into which TensorFlow traces a classifier: what its last operation takes, and gradients in it."""

import itertools
import math
from collections.abc import Callable

import tensorflow as tf

# These only move, copy or convert what an activation gave.
_PASSED = ("Identity", "Reshape", "Squeeze", "Cast", "EnsureShape", "CheckNumerics")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def ends_in(kind: str, outputs: tf.Tensor) -> bool:
    """Whether a graph ends in an operation on the last axis.

    Args:
        kind: TensorFlow's name of an elementwise or row-wise operation: "Softmax", "Sigmoid".
        outputs: symbolic `(batch, n)`. Casts and reshapes behind the operation are passed over.
    """
    last = _last_operation(outputs)
    return last.type == kind and last.inputs[0].shape.rank is not None and last.inputs[0].shape[-1] == outputs.shape[-1]


def input_of_last(outputs: tf.Tensor) -> tf.Tensor:
    """Returns what the last operation of a graph takes, in dtype and shape of `outputs`, while the graph is traced."""
    return tf.reshape(tf.cast(_last_operation(outputs).inputs[0], outputs.dtype), (-1, outputs.shape[-1]))


def ends_in_a_call(outputs: tf.Tensor) -> bool:
    """Whether the end of a graph is hidden in a function that it calls, as in a SavedModel."""
    return _last_operation(outputs).type in _CALLS


def _last_operation(outputs):
    operation = outputs.op
    while operation.type in _PASSED:
        operation = operation.inputs[0].op
    return operation


def with_calls_expanded(traced: tf.types.experimental.ConcreteFunction) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function of one tensor with the functions that it calls expanded, its variables as constants.

    It is for use inside a `tf.function` of its own: gradient tapes do not see imported operations, but see the call.

    Raises:
        Exception: TensorFlow cannot expand it, for instance above the 2 GB of a graph.
    """
    # No public name expands calls. If it moves, the softmax of a SavedModel stays, as the caller's fallback allows.
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    definition = convert_variables_to_constants_v2(traced, lower_control_flow=False).graph.as_graph_def()
    (source,) = (tensor.name for tensor in traced.inputs if tensor.dtype != tf.resource)
    result = traced.outputs[0].name

    def expanded(inputs):
        return tf.graph_util.import_graph_def(definition, {source: inputs}, [result], name="classifier")[0]

    return expanded


def largest_tensor(traced: tf.types.experimental.ConcreteFunction) -> int:
    """Returns how many values the largest tensor of a graph has, also in functions that it calls.

    A dimension that is not known counts as 1.
    """
    definition = traced.graph.as_graph_def(add_shapes=True)
    nodes = itertools.chain(definition.node, *(function.node_def for function in definition.library.function))
    shapes = (shape for node in nodes for shape in node.attr["_output_shapes"].list.shape)
    return max(math.prod(abs(dim.size) for dim in shape.dim) for shape in shapes)


class GraphClassifier:
    """A classifier that is computed in graphs, and outside of them differentiated with respect to the images alone.

    Outside a graph, TensorFlow computes the gradients of all weights too. That costs a third more, and TensorFlow 2.21
    corrupts memory in that of a strided 1 x 1 convolution on a CPU. The gradient computes the logits a second time.

    Args:
        classifier: a function of float32 `(batch, height, width, channels)` to logits `(batch, num_classes)`.
    """

    def __init__(self, classifier: Callable[[tf.Tensor], tf.Tensor]):
        self.classifier = classifier
        self._logits = tf.function(classifier, reduce_retracing=True)
        self._gradient = tf.function(self._gradient_of, reduce_retracing=True)

    @classmethod
    def of(cls, classifier: Callable[[tf.Tensor], tf.Tensor]) -> "GraphClassifier":
        """Returns a classifier as one, itself if it is one already, so that its graphs are traced once."""
        return classifier if isinstance(classifier, cls) else cls(classifier)

    def __call__(self, images):
        """Returns the logits of images."""
        return self.classifier(images) if tf.inside_function() else self._outside_graphs(images)

    @tf.custom_gradient
    def _outside_graphs(self, images):
        def gradient(upstream, variables=()):  # TensorFlow hands over the weights, whose gradient nobody needs
            return self._gradient(images, upstream), [None] * len(variables)

        return self._logits(images), gradient

    def _gradient_of(self, images, upstream):
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = self.classifier(images)
        return tape.gradient(logits, images, upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO)
