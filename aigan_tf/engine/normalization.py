"""Batch normalisation with fewer passes over the feature maps.

In training, TensorFlow's fused kernel: Keras composes the operation from a dozen elementary ones, each a pass over the
maps. The kernel takes two passes, which saves a seventh of a ResNet-32's training step on a CPU. Variables,
configuration and outputs are those of Keras's layer.

In inference, folded into the convolution before it: no pass at all.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from aigan_tf.engine.keras_graph import feeds_one_layer, is_called_once, is_layer_graph, producer_of
from aigan_tf.engine.keras_state import own_keras_state


@keras.saving.register_keras_serializable("aigan_tf")
class FusedBatchNormalization(layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis of maps `(batch, height, width, channels)`.

    The running variance follows the unbiased estimate (divided by n - 1), as in other frameworks.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalises maps, by the batch's statistics if `training`, else by the running ones."""
        if not training or not self.trainable:
            return super().call(inputs, training=False)
        if tf.distribute.get_strategy().num_replicas_in_sync > 1 or inputs.dtype == tf.float64:
            return self._over_all_replicas(inputs)  # the kernel supports neither
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            scale=tf.cast(self.gamma, tf.float32) if self.scale else tf.ones_like(self.moving_variance),
            offset=tf.cast(self.beta, tf.float32) if self.center else tf.zeros_like(self.moving_mean),
            epsilon=self.epsilon,
            is_training=True,
        )
        self._follow(mean, variance)
        return outputs

    def _over_all_replicas(self, inputs):
        """Normalises by the statistics of the whole batch; each replica has an equal part of it."""
        context, average = tf.distribute.get_replica_context(), tf.distribute.ReduceOp.MEAN
        # As in the kernel: the count below may exceed 65504, the largest float16.
        maps = tf.cast(inputs, tf.float32) if inputs.dtype == tf.float16 else inputs
        mean = context.all_reduce(average, tf.reduce_mean(maps, [0, 1, 2]))
        variance = context.all_reduce(average, tf.reduce_mean(tf.square(maps - mean), [0, 1, 2]))
        count = tf.cast(tf.size(maps) // tf.size(mean) * context.num_replicas_in_sync, maps.dtype)
        self._follow(mean, variance * count / (count - 1.0))
        gamma = tf.cast(self.gamma, maps.dtype) if self.scale else None
        beta = tf.cast(self.beta, maps.dtype) if self.center else None
        return tf.cast(tf.nn.batch_normalization(maps, mean, variance, beta, gamma, self.epsilon), inputs.dtype)

    def _follow(self, mean, variance):
        """Updates the running statistics by those of a batch."""
        for running, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            running.assign(running * self.momentum + tf.cast(batch, running.dtype) * (1.0 - self.momentum))


@own_keras_state()
def with_fused_batch_norm(model: keras.Model) -> keras.Model:
    """Returns a copy of a functional model, weights included, that normalises by the fused kernel and trains faster.

    `model.set_weights(copy.get_weights())` brings the trained weights back into Keras's own layers.
    """

    def copy_layer(layer):
        fusable = type(layer) is layers.BatchNormalization
        return (FusedBatchNormalization if fusable else type(layer)).from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=copy_layer)
    copy.set_weights(model.get_weights())
    return copy


def with_folded_batch_norm(model: keras.Model) -> keras.Model:
    """Returns a model that computes what `model` does in inference mode, with fewer passes over the maps.

    With fixed statistics, a normalisation is a scale and a shift of each channel. If it alone follows a convolution, the
    convolution's kernel and bias can do both. Folded layers keep the weights of this moment; the others are shared with
    `model`, which is not changed. A model with nothing to fold, or whose `call` is its own, is returned itself.
    Subclasses of Keras's normalisation are not folded: they may compute something else.
    """
    if not is_layer_graph(model):
        return model
    norms = {}
    for norm in model.layers:
        if type(norm) in (layers.BatchNormalization, FusedBatchNormalization) and is_called_once(norm):
            conv = producer_of(norm.input)
            if _can_fold(conv, norm):
                norms[conv] = norm
    if not norms:
        return model
    convs = {norm: conv for conv, norm in norms.items()}

    def copy_layer(layer):
        if layer in norms:
            return layers.Conv2D.from_config({**layer.get_config(), "use_bias": True})
        return layers.InputLayer.from_config(layer.get_config()) if isinstance(layer, layers.InputLayer) else layer

    def call_layer(layer, *args, **kwargs):
        return args[0] if layer in convs else layer(*args, **kwargs)

    # A single input is not passed as a list: Keras would warn at every eager call.
    inputs, outputs = (nodes[0] if len(nodes) == 1 else nodes for nodes in (model.inputs, model.outputs))
    folded = keras.models.clone_model(keras.Model(inputs, outputs), None, copy_layer, call_layer)
    for conv, norm in norms.items():
        kernel, *bias = conv.get_weights()
        scale, shift = scale_and_shift(norm)
        folded.get_layer(conv.name).set_weights([kernel * scale, shift + (bias[0] * scale if bias else 0.0)])
    return folded


def scale_and_shift(norm: layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a normalisation multiplies each channel by in inference mode, and what it then adds."""
    scale = 1.0 / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
    scale *= np.asarray(norm.gamma) if norm.scale else 1.0
    return scale, (np.asarray(norm.beta) if norm.center else 0.0) - np.asarray(norm.moving_mean) * scale


def _can_fold(conv, norm) -> bool:
    """Whether `norm` alone takes the output of `conv`, and normalises its channels."""
    return (
        type(conv) is layers.Conv2D
        and len(conv.weights) == 1 + conv.use_bias  # LoRA and quantisation add others
        and conv.activation is keras.activations.linear
        and conv.data_format == "channels_last"
        and norm.axis in (-1, 3)
        and is_called_once(conv)
        and feeds_one_layer(conv)
    )
