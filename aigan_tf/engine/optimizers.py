"""Optimizer steps: descent shared by replicas, and Muon for convolutions."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from aigan_tf.engine.keras_state import own_keras_state
from aigan_tf.engine.replicas import replica


def descend(
    tape: tf.GradientTape, loss: tf.Tensor, network: keras.Model, optimizer: keras.optimizers.Optimizer
) -> None:
    """Moves the trainable variables of one network one step down the gradient of `loss`.

    Optimizers add up the gradients of all replicas, each of which has the mean over its part of the batch: every replica
    contributes its share. The loss scale of float16, if the optimizer has one, is applied here too.

    Args:
        tape: has recorded the pass from the variables to `loss`.
        loss: float scalar.
        network: whose variables move; no other's do.
        optimizer: of that network.
    """
    variables = network.trainable_variables
    share = optimizer.scale_loss(tf.cast(1 / replica()[0], loss.dtype))
    gradients = tape.gradient(loss, variables, output_gradients=share)
    optimizer.apply_gradients(zip(gradients, variables, strict=True))


class CosineDecay(keras.optimizers.schedules.CosineDecay):
    """Keras's schedule in float32, whatever `floatx` is at the time of the call: float16 counts to 2,048 steps."""

    def __call__(self, step):
        with own_keras_state():
            return super().__call__(step)


class WarmRestarts(keras.optimizers.schedules.LearningRateSchedule):
    """Cosines to zero, one after the other (https://arxiv.org/abs/1608.03983).

    Args:
        learning_rate: at the first step.
        ends: the step at which each cosine ends, increasing.
        restart: the rate at the start of later cosines, as a share of `learning_rate`; None for the length of the cosine
            in that of all before it, at most 1. Few steps are lost if they begin with a high rate, many gain by it
            (docs/notebook.md).
    """

    def __init__(self, learning_rate: float, ends: Sequence[int], restart: float | None = None):
        self.starts = (0, *ends[:-1])
        self.cosines = []
        for start, end in zip(self.starts, ends, strict=True):
            share = restart or min(1.0, (end - start) / start) if start else 1.0
            self.cosines.append(CosineDecay(share * learning_rate, end - start))

    def __call__(self, step):
        rate = self.cosines[0](step)
        for start, cosine in zip(self.starts[1:], self.cosines[1:], strict=True):
            rate = tf.where(step < start, rate, cosine(step - start))
        return rate


@keras.saving.register_keras_serializable("aigan_tf")
class ConvolutionMuon(keras.optimizers.Muon):
    """Keras's Muon, which takes matrices only, for convolution kernels; Adam for everything else.

    Muon (https://kellerjordan.github.io/posts/muon/) moves the weights along the momentum's matrix with all singular
    values set to about 1, so that rare gradients teach as much as frequent ones. A kernel `(height, width, in, out)` is
    taken as the matrix `(height * width * in, out)` that its convolution multiplies patches by.

    Private in Keras: `_get_variable_index`, the index of a variable's momentum; without it, `momentums` must be searched.

    Args:
        learning_rate: float or schedule. Keras scales Muon's steps so that they change a weight as much as Adam's do, on
            average (https://arxiv.org/abs/2502.16982).
        adam_beta_1: decay of the mean of gradients in Adam.
        name: the optimizer's.
    """

    def __init__(self, learning_rate=1e-2, adam_beta_1=0.9, name="convolution_muon"):
        super().__init__(
            learning_rate,
            adam_beta_1=adam_beta_1,
            weight_decay=None,
            adam_weight_decay=None,
            exclude_layers=[""],  # matches all matrices: the generator's scale and shift by the class, as biases do
            name=name,
        )

    def get_config(self):
        config = super().get_config()
        return {name: config[name] for name in ("learning_rate", "adam_beta_1", "name")}

    @own_keras_state()  # Keras's iteration takes its constants as `floatx`
    def update_step(self, gradient, variable, learning_rate):
        """One step of one variable; kernels are those of four axes."""
        gradient = tf.convert_to_tensor(gradient)  # that of an embedding is given by rows, one for each use
        index = self._get_variable_index(variable)
        momentum = self.momentums[index].value
        if len(variable.shape) != 4:
            self._adam_step(gradient, variable, momentum, self.adam_velocities[index].value, learning_rate)
            return
        self.assign(momentum, gradient + self.momentum * momentum)
        matrix = tf.reshape(gradient + self.momentum * momentum, (-1, variable.shape[-1]))  # Nesterov's
        # Keras's form, not the Gram matrix alone, though that multiplies less: under mixed precision it is bfloat16, whose
        # errors would grow in the iteration to steps of ten times the length.
        direction = self.lr_adjust(self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        self.assign_sub(variable, tf.reshape(learning_rate * direction, variable.shape))

    def _adam_step(self, gradient, variable, momentum, velocity, learning_rate):
        """Keras's Adam as TensorFlow's one operation, which reads and writes the large maps of the classes once."""
        step = tf.cast(self.iterations.value + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.handle,
            v=velocity.handle,
            beta1_power=self.adam_beta_1**step,
            beta2_power=self.adam_beta_2**step,
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.adam_beta_1,
            beta2=self.adam_beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )
