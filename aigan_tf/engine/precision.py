"""Mixed precision: training steps that compute in fewer bits, as the device can, and measure in float32."""

import os
from collections.abc import Sequence

import keras
import tensorflow as tf


def computes_in_float16() -> bool:
    """Whether mixed precision is float16 on this machine: it has a GPU. On a CPU it is bfloat16."""
    return bool(tf.config.list_physical_devices("GPU"))


@keras.saving.register_keras_serializable("aigan_tf")
class LossScaling(keras.optimizers.LossScaleOptimizer):
    """Keras's optimizer that keeps small gradients of float16 from vanishing, also where only one replica's overflow.

    It multiplies its loss by a scale of its own and divides the gradients by it. A step whose gradients overflow is left
    out, and halves the scale. (Micikevicius et al., arXiv 1710.03740.)
    """

    def check_finite(self, grads):
        """Whether the gradients are finite on all replicas; Keras looks at the first one's alone."""
        finite = super().check_finite(grads)
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return finite
        overflows = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(tf.logical_not(finite), tf.float32))
        return tf.equal(overflows, 0.0)


def with_loss_scaling(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns an optimizer with `LossScaling` where mixed precision is float16, else the same one.

    bfloat16 has float32's range of exponents and needs none.
    """
    return LossScaling(optimizer) if computes_in_float16() else optimizer


class MixedPrecision(keras.callbacks.Callback):
    """Within its block, training steps compute convolutions and matrix products in bfloat16, or on a GPU in float16.

    As a callback of the `fit` in the block, the first one, it keeps validation and what the other callbacks do after an epoch
    in float32. Weights, losses and the optimizers' state stay in float32 in any case.

    On a CPU TensorFlow's graph optimiser inserts the casts, so that every network of the step takes part as it is, the
    classifier under attack too. One without bfloat16 instructions changes nothing.

    On a GPU the given networks compute by Keras's policy `mixed_float16`. The classifier and the attacker, whose gradients
    no loss scale keeps from vanishing, stay as they are.

    Args:
        enabled: False for a block, and a callback, that do nothing.
        networks: what is trained; for a GPU.
    """

    # From these on everything is float32 up to the next convolution: the perturbation's arithmetic and norms (from the bound
    # on, a Tanh or the Minimum of a projection; bfloat16 knows bright pixels in steps of an eighth of 8/255), the
    # attacker's steps (Sign), the GAN losses, and the sums that the metrics keep. Each beside TensorFlow's own list that it
    # is on: with another one's name TensorFlow gives up on bfloat16 altogether.
    FLOAT32_FROM = (("INFERLIST", "Tanh,Softplus"), ("CLEARLIST", "Minimum,Sign"))

    def __init__(self, enabled: bool, networks: Sequence[keras.Model] = ()):
        super().__init__()
        self.enabled = enabled
        self.networks = networks

    def __enter__(self):
        self._set(True)
        return self

    def __exit__(self, *error):
        self._set(False)  # after an interruption too: what a notebook runs next is float32

    def on_epoch_begin(self, epoch, logs=None):
        self._set(True)

    def on_test_begin(self, logs=None):
        self._set(False)

    def on_epoch_end(self, epoch, logs=None):
        self._set(False)  # where nothing was validated

    def _set(self, on: bool):
        if not self.enabled:
            return
        if computes_in_float16():
            for network in self.networks:
                for layer in network._flatten_layers():
                    layer.dtype_policy = "mixed_float16" if on else "float32"
            return
        # TensorFlow has no other way to move an operation from one of its lists to another.
        changes = {f"{name}_REMOVE": operations for name, operations in self.FLOAT32_FROM}
        changes["DENYLIST_ADD"] = ",".join(operations for _, operations in self.FLOAT32_FROM)
        for change, operations in changes.items():
            os.environ[f"TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_{change}"] = operations
        # The option is TensorFlow's own and holds for the process; a compiled step is looked up by it at each call.
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": on})
