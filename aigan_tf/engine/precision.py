"""Mixed precision: training steps in bfloat16 or float16, measurements in float32."""

import contextlib
import os
import pathlib
from collections.abc import Sequence

import keras
import tensorflow as tf

from aigan_tf.engine.keras_graph import all_layers
from aigan_tf.errors import say


def computes_in_float16() -> bool:
    """Whether mixed precision is float16 here (with a GPU) rather than bfloat16 (on a CPU)."""
    return bool(tf.config.list_physical_devices("GPU"))


def has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16, by what Linux says of it; not, if the system does not say.

    Without them TensorFlow emulates it: three convolutions of 32 channels and their gradient took 12 times as long as in
    float32 on an AMD EPYC with AVX2.
    """
    with contextlib.suppress(OSError):
        return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(pathlib.Path("/proc/cpuinfo").read_text().split())
    return False


def set_precision(network: keras.Model, policy: str) -> None:
    """Sets the precision of a network that is built, by the name of a Keras dtype policy such as "mixed_bfloat16"."""
    for layer in all_layers(network):
        layer.dtype_policy = policy


@keras.saving.register_keras_serializable("aigan_tf")
class LossScaling(keras.optimizers.LossScaleOptimizer):
    """Keras's loss scaling for float16 (Micikevicius et al., arXiv 1710.03740), with all replicas in step.

    The loss is multiplied by a scale and the gradients divided by it. A step whose gradients overflow is skipped, and
    halves the scale.
    """

    def check_finite(self, grads):
        """Whether the gradients are finite on all replicas; Keras checks the first one alone."""
        finite = super().check_finite(grads)
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return finite
        overflows = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(tf.logical_not(finite), tf.float32))
        return tf.equal(overflows, 0.0)


def with_loss_scaling(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns an optimizer with `LossScaling` if mixed precision is float16; bfloat16 has float32's range and needs none."""
    return LossScaling(optimizer) if computes_in_float16() else optimizer


class MixedPrecision(keras.callbacks.Callback):
    """Within its block, training steps compute convolutions and matrix products in bfloat16, or on a GPU in float16.

    As the first callback of the `fit` in the block it keeps validation and the other callbacks in float32. Weights,
    losses and the optimizers' state are float32 in any case.

    On a CPU TensorFlow's graph optimiser inserts the casts, in every network of the step, the classifier included. A CPU
    without bfloat16 instructions computes in float32, and a line says so. On a GPU the given networks compute by Keras's
    policy `mixed_float16`; the classifier and the attacker, whose gradients no loss scale protects, stay in float32.

    Args:
        enabled: False for a block and a callback that do nothing.
        networks: the networks in training; for a GPU.
    """

    # From these operations on everything is float32 up to the next convolution: the perturbation's arithmetic and norms
    # (from the Minimum of a projection on; bfloat16 resolves bright pixels to an eighth of 8/255), the attacker's steps
    # (Sign), the GAN losses, and the metrics' sums. Each stands beside the TensorFlow list that holds it: with another
    # list's name TensorFlow gives up on bfloat16 altogether.
    FLOAT32_FROM = (("INFERLIST", "Tanh,Softplus"), ("CLEARLIST", "Minimum,Sign"))

    def __init__(self, enabled: bool, networks: Sequence[keras.Model] = ()):
        super().__init__()
        self.enabled = enabled and (computes_in_float16() or has_bfloat16())
        self.networks = networks
        if enabled and not self.enabled:
            say("This CPU has no bfloat16 instructions: mixed precision is off, training computes in float32.")

    def __enter__(self):
        self._set(True)
        return self

    def __exit__(self, *error):
        self._set(False)  # after an interruption too: a notebook continues in float32

    def on_epoch_begin(self, epoch, logs=None):
        self._set(True)

    def on_test_begin(self, logs=None):
        self._set(False)

    def on_epoch_end(self, epoch, logs=None):
        self._set(False)  # without validation

    def _set(self, on: bool):
        if not self.enabled:
            return
        if computes_in_float16():
            for network in self.networks:
                set_precision(network, "mixed_float16" if on else "float32")
            return
        # TensorFlow's only way to move an operation from one of its lists to another.
        changes = {f"{name}_REMOVE": operations for name, operations in self.FLOAT32_FROM}
        changes["DENYLIST_ADD"] = ",".join(operations for _, operations in self.FLOAT32_FROM)
        for change, operations in changes.items():
            os.environ[f"TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_{change}"] = operations
        # TensorFlow's option for the whole process; it is part of the key by which a compiled step is found.
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": on})
