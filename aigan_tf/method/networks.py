"""The two networks in training: generator and discriminator."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from aigan_tf.engine.keras_graph import all_layers
from aigan_tf.engine.keras_state import own_keras_state
from aigan_tf.engine.normalization import FusedBatchNormalization, scale_and_shift
from aigan_tf.engine.precision import set_precision


@keras.saving.register_keras_serializable("aigan_tf")
class UpsampledConvolution(layers.Conv2D):
    """A 3 x 3 convolution of upsampled features (nearest neighbours) and a skip connection, without the large map.

    Upsampling repeats each pixel four times, so kernel taps on the same pixel add up: both together are a transposed
    convolution, 4 x 4 with stride 2, with 4/9 of the multiplications. Convolving the skip connection by itself saves the
    concatenation. The kernel is that of the plain convolution, `(3, 3, features + skip, filters)`. Without it a training
    step of stage 2 takes 9 % longer (float32, one thread, 32 channels).
    """

    def build(self, features_shape, skip_shape):
        super().build((*skip_shape[:-1], features_shape[-1] + skip_shape[-1]))
        self.features = features_shape[-1]
        self.input_spec = None  # Keras's would check the features alone

    def call(self, features, skip):
        """Features `(batch, h, w, any)`, skip `(batch, 2 h or 2 h - 1, 2 w or 2 w - 1, any)` to `(..., filters)` of its size."""
        return self.convolve(features, skip, *self.kernels())

    def convolve(self, features, skip, four_by_four, kept):
        """The same as `call`, by given kernels."""
        size = tf.concat([tf.shape(skip)[:3], [self.filters]], axis=0)
        return tf.nn.conv2d(skip, kept, 1, "SAME") + tf.nn.conv2d_transpose(features, four_by_four, size, 2)

    def kernels(self):
        """Returns the 4 x 4 kernel of the features and the 3 x 3 one of the skip connection."""
        upsampled, kept = tf.split(self.kernel, [self.features, -1], axis=2)
        flipped = tf.transpose(tf.reverse(upsampled, [0, 1]), [0, 1, 3, 2])
        padded = [tf.pad(flipped, [[y, 1 - y], [x, 1 - x], [0, 0], [0, 0]]) for y in (0, 1) for x in (0, 1)]
        return tf.add_n(padded), kept

    def kernel_of(self, four_by_four: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
        """Returns the kernel that `kernels` takes apart."""
        for axis in (0, 1):  # along each, taps a, b, c became a, a + b, b + c, c
            a, a_and_b, _, c = tf.unstack(four_by_four, axis=axis)
            four_by_four = tf.stack([a, a_and_b - a, c], axis=axis)
        upsampled = tf.reverse(tf.transpose(four_by_four, [0, 1, 3, 2]), [0, 1])
        return tf.concat([upsampled, kept], axis=2)


@keras.saving.register_keras_serializable("aigan_tf")
class ConditionalBlock(layers.Layer):
    """Convolution, batch normalisation, scale and shift of each channel by the class (FiLM), ReLU.

    Args:
        filters: output channels.
        strides: 2 halves the map.
        activation: whether to apply the ReLU.
        upsample: whether to double the map and convolve it together with a skip connection.
    """

    def __init__(self, filters: int, strides: int = 1, activation: bool = True, upsample: bool = False, **kwargs):
        super().__init__(**kwargs)
        convolution = UpsampledConvolution if upsample else layers.Conv2D
        self.conv = convolution(filters, 3, strides, padding="same", use_bias=False, kernel_initializer="he_normal")
        # FiLM scales and shifts, so the normalisation does not. Momentum 0.9, since runs are a few thousand steps.
        self.norm = FusedBatchNormalization(momentum=0.9, epsilon=1e-5, center=False, scale=False)
        self.film = layers.Dense(2 * filters)
        self.activation = activation

    folded = None  # after `fold`: kernels and bias

    def build(self, features_shape, condition_shape, skip_shape=None, gains_shape=None):
        self.conv.build(*filter(None, (features_shape, skip_shape)))
        self.norm.build((*features_shape[:-1], self.conv.filters))
        self.film.build(condition_shape)

    def call(self, features, condition, skip=None, gains=None, training=None):
        """Features `(batch, height, width, any)` and condition `(batch, embedding)` to `(batch, h, w, filters)`.

        With `upsample` also a skip connection, of the output's size. `gains`, of the output's shape, are added to the scale.
        """
        scale, shift = tf.split(self.film(condition)[:, tf.newaxis, tf.newaxis, :], 2, axis=-1)
        scale = 1.0 + scale if gains is None else 1.0 + scale + tf.cast(gains, scale.dtype)
        if self.folded:
            features = self._convolve_folded(features, skip)
        else:
            features = self.conv(features) if skip is None else self.conv(features, skip)
            features = self.norm(features, training=training)
        features = features * scale + shift
        return tf.nn.relu(features) if self.activation else features

    def fold(self):
        """Computes once what the class does not change: the kernels, with the fixed statistics in them, and a bias.

        The block is for inference alone from then on.
        """
        scale, shift = scale_and_shift(self.norm)
        if isinstance(self.conv, UpsampledConvolution):
            four_by_four, kept = self.conv.kernels()
            kernels = [four_by_four * scale[:, np.newaxis], kept * scale]
        else:
            kernels = [self.conv.kernel * scale]
        self.folded = [tf.Variable(part, trainable=False) for part in (*kernels, shift)]

    def unfold(self, folded: Sequence[tf.Variable]):
        """Takes kernels and bias that `fold` computed; statistics of the normalisation stand for the bias."""
        *kernels, bias = (tf.convert_to_tensor(part) for part in folded)
        upsampled = isinstance(self.conv, UpsampledConvolution)
        self.conv.kernel.assign(self.conv.kernel_of(*kernels) if upsampled else kernels[0])
        self.norm.moving_mean.assign(-bias)
        self.norm.moving_variance.assign(tf.ones_like(bias) - self.norm.epsilon)

    def _convolve_folded(self, features, skip):
        *kernels, bias = (tf.cast(part, features.dtype) for part in self.folded)
        if skip is None:
            return tf.nn.bias_add(tf.nn.conv2d(features, *kernels, self.conv.strides, "SAME"), bias)
        return tf.nn.bias_add(self.conv.convolve(features, skip, *kernels), bias)


@keras.saving.register_keras_serializable("aigan_tf")
class ConditionalResidualBlock(layers.Layer):
    """Two conditional blocks and a shortcut around them.

    Args:
        filters: channels in and out.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(**kwargs)
        self.first = ConditionalBlock(filters)
        self.second = ConditionalBlock(filters, activation=False)

    def call(self, features, condition, training=None):
        """Features `(batch, height, width, filters)` and condition `(batch, embedding)` to the features' shape."""
        inner = self.first(features, condition, training=training)
        return tf.nn.relu(features + self.second(inner, condition, training=training))


@keras.saving.register_keras_serializable("aigan_tf")
class Projection(layers.Layer):
    """Brings a map of the classifier's to the generator's channels: batch normalisation and a 1 x 1 convolution.

    Args:
        filters: output channels.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(**kwargs)
        self.norm = FusedBatchNormalization(momentum=0.9, epsilon=1e-5, center=False, scale=False)
        self.conv = layers.Conv2D(filters, 1, use_bias=False, kernel_initializer="he_normal")

    def call(self, features, training=None):
        """Features `(batch, height, width, any)` to `(batch, height, width, filters)`."""
        return self.conv(self.norm(features, training=training))


@keras.saving.register_keras_serializable("aigan_tf")
class Generator(keras.Model):
    """G: a clean image and a class to a direction, which `bounded` turns into a perturbation.

    An encoder halves the map, residual blocks work on the smallest map, a decoder with skip connections returns to full
    size. Every block is conditioned on the class, so that one generator serves all classes. A good part of a perturbation
    is a pattern of its class, which scale and shift of channels cannot hold: with `class_maps` the generator also sees a
    learned map of the class beside the image, with `gain_maps` the scale of its last block has one. Any height and width
    from 8.

    Args:
        num_classes: number of classes.
        channels: channels of the images.
        width: channels at full size; twice as many after each halving.
        patch: side of the squares of pixels that are folded into channels on the way in and unfolded on the way out, so
            that "full size" is that part of the image's.
        halvings: number of times the encoder halves the map.
        num_blocks: residual blocks on the smallest map.
        embedding_dim: length of a class's learned embedding.
        class_maps: channels of a class's learned map; 0 for none.
        gain_maps: whether each class has a learned map of gains, which the last block adds to its channels' scale.
        map_size: height and width of these maps, which are enlarged or cut to the size of the image.
        budget_input: whether the budget is an input, so that one generator serves every epsilon.
        classes: their numbers; None for 0 to `num_classes` - 1. The generator serves no other.
        features: from images to the classifier's maps of them, one of each size from the image's to the smallest, which are
            added to the encoder's; see `features_of`. None for none. It is not trained.
    """

    @own_keras_state()
    def __init__(
        self,
        num_classes: int,
        channels: int,
        width: int = 16,
        patch: int = 1,
        halvings: int = 2,
        num_blocks: int = 4,
        embedding_dim: int = 64,
        class_maps: int = 0,
        gain_maps: bool = False,
        map_size: int = 32,
        budget_input: bool = False,
        classes: Sequence[int] | None = None,
        features: keras.Model | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "num_classes": num_classes,
            "channels": channels,
            "width": width,
            "patch": patch,
            "halvings": halvings,
            "num_blocks": num_blocks,
            "embedding_dim": embedding_dim,
            "class_maps": class_maps,
            "gain_maps": gain_maps,
            "map_size": map_size,
            "budget_input": budget_input,
            "classes": classes,
        }
        self.embedding = layers.Embedding(num_classes, embedding_dim, embeddings_initializer="random_normal")
        self.maps = layers.Embedding(num_classes, map_size * map_size * class_maps) if class_maps else None
        self.gains = layers.Embedding(num_classes, map_size * map_size * width) if gain_maps else None
        self.budget_embedding = None
        if budget_input:
            self.budget_embedding = keras.Sequential(
                [layers.Dense(embedding_dim, activation="silu"), layers.Dense(embedding_dim)]
            )
        self.features = features
        self.projections = [Projection(width * 2**i) for i in range(halvings + 1)] if features else []
        self.stem = ConditionalBlock(width)
        self.downs = [ConditionalBlock(width * 2**i, strides=2) for i in range(1, halvings + 1)]
        self.blocks = [ConditionalResidualBlock(width * 2**halvings) for _ in range(num_blocks)]
        self.ups = [ConditionalBlock(width * 2**i, upsample=True) for i in reversed(range(halvings))]
        # Starts near a zero perturbation, far from the bound.
        small = keras.initializers.RandomNormal(0.0, 0.02)
        self.head = layers.Conv2D(channels * patch**2, 3, padding="same", kernel_initializer=small)
        # Creates all variables, so that weights can be loaded; the size of the image matters to the classifier's layers alone.
        size = features.input_shape[1:3] if features else (8 * patch, 8 * patch)
        self(tf.zeros((1, *size, channels)), tf.zeros((1,), tf.int32), tf.ones((1,)) if budget_input else None)

    def get_config(self):
        features = keras.saving.serialize_keras_object(self.features) if self.features else None
        return {**super().get_config(), **self.settings, "features": features}

    @classmethod
    def from_config(cls, config):
        return cls(**config | {"features": keras.saving.deserialize_keras_object(config["features"])})

    def call(self, images, targets, budgets=None, training=None):
        """Maps images and targets to directions.

        Args:
            images: float32 `(batch, height, width, channels)` in `[0, 1]`.
            targets: int32 `(batch,)`, target classes; of an untargeted attack the labels.
            budgets: float32 `(batch,)`, each image's epsilon as a share of the largest, in training at times above 1; used
                only with `budget_input`.
            training: whether batch normalisation uses the batch's statistics.

        Returns:
            float32 `(batch, height, width, channels)`, in units of the budget, unbounded.
        """
        if self.settings["classes"] is not None:  # embedding and maps have a row for each of these
            known = targets[:, tf.newaxis] == tf.constant(self.settings["classes"])
            targets = tf.argmax(tf.cast(known, tf.int32), axis=-1)  # ONNX knows none of booleans
        condition = self.embedding(targets)
        if self.budget_embedding is not None:
            condition += self.budget_embedding(budgets[:, tf.newaxis])
        inputs = folded = self._folded(2.0 * images - 1.0)
        if self.maps is not None:
            maps = self.class_map(self.maps, targets, folded)
            inputs = tf.concat([inputs, tf.cast(maps, inputs.dtype)], axis=-1)
        features, skips = inputs, []
        for block, view in zip((self.stem, *self.downs), self._views(images, training), strict=True):
            features = block(features, condition, training=training)
            features = features if view is None else features + view
            skips.append(features)
        skips.pop()
        for block in self.blocks:
            features = block(features, condition, training=training)
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            gains = self.class_map(self.gains, targets, folded) if self.gains and up is self.ups[-1] else None
            features = up(features, condition, skip, gains, training=training)
        directions = tf.cast(self.head(features), self.variable_dtype)
        if self.settings["patch"] == 1:
            return directions
        height, width = tf.unstack(tf.shape(images)[1:3])
        return tf.nn.depth_to_space(directions, self.settings["patch"])[:, :height, :width]

    def _folded(self, images):
        """Returns squares of pixels as channels; at the right and at the bottom, the image is mirrored to whole squares."""
        patch = self.settings["patch"]
        if patch == 1:
            return images
        down, right = tf.unstack((patch - tf.shape(images)[1:3] % patch) % patch)
        whole = tf.pad(images, [[0, 0], [0, down], [0, right], [0, 0]], "SYMMETRIC")
        return tf.nn.space_to_depth(whole, patch)

    def _views(self, images, training):
        """Returns what the encoder's blocks get of the classifier's maps, a map or None each."""
        if not self.features:
            return [None] * (1 + len(self.downs))
        maps = self.features(images, training=False)
        return [project(each, training=training) for project, each in zip(self.projections, maps, strict=True)]

    def for_inference(self, dtype: str = "float32") -> "Generator":
        """Returns a faster copy for inference alone, with the weights of this moment; see `ConditionalBlock.fold`.

        Args:
            dtype: in which it computes: "float32" or "bfloat16". Weights and directions are float32 in any case.
        """
        copy = type(self)(**self.settings, features=self.features)
        copy.set_weights(self.get_weights())
        for block in copy._conditional_blocks():
            block.fold()
        set_precision(copy, "float32" if dtype == "float32" else f"mixed_{dtype}")
        return copy

    @property
    def inference_variables(self) -> list[tf.Variable]:
        """What a generator `for_inference` reads, in an order that depends on its settings alone."""
        replaced = self._replaced_by_folding()
        return [part for variable in self.variables for part in replaced.get(id(variable), [variable.value])]

    def unfold(self, served: "Generator") -> None:
        """Takes the weights of a generator `for_inference` of the same settings, from which training can go on."""
        replaced = self._replaced_by_folding()
        for own, other in zip(self.variables, served.variables, strict=True):
            if id(own) not in replaced:
                own.assign(other)
        for own, other in zip(self._conditional_blocks(), served._conditional_blocks(), strict=True):
            own.unfold(other.folded)

    def _replaced_by_folding(self):
        """Returns what `fold` puts in the place of variables, by their identity."""
        replaced = {}
        for block in self._conditional_blocks():
            replaced |= {id(variable): [] for variable in block.norm.variables} | {id(block.conv.kernel): block.folded}
        return replaced

    def _conditional_blocks(self):
        return [layer for layer in all_layers(self) if isinstance(layer, ConditionalBlock)]

    def class_map(self, table, targets, images):
        """The learned maps of int32 `(batch,)` targets, float `(batch, height, width, channels)`, of the size of `images`."""
        size = self.settings["map_size"]
        maps = tf.reshape(table(targets), (-1, size, size, table.output_dim // size**2))
        if images.shape[1:3] == (size, size):  # spares two copies, and their gradients
            return maps
        height, width = tf.unstack(tf.shape(images)[1:3])
        times = (tf.maximum(height, width) + size - 1) // size  # of no negative number, which ONNX rounds up
        return tf.repeat(tf.repeat(maps, times, axis=1), times, axis=2)[:, :height, :width]


@keras.saving.register_keras_serializable("aigan_tf")
class Discriminator(keras.Model):
    """D: an image to one logit, high for "real" (the attacker's in stage 1, clean in stage 2).

    Args:
        channels: channels of the images.
        width: channels after the first convolution; doubled by each of the two that follow.
    """

    @own_keras_state()
    def __init__(self, channels: int, width: int = 16, **kwargs):
        super().__init__(**kwargs)
        self.settings = dict(channels=channels, width=width)
        self.convs = [
            layers.Conv2D(width * factor, 3, strides=2, padding="same", kernel_initializer="he_normal")
            for factor in (1, 2, 4)
        ]
        self.head = layers.Dense(1)
        self(tf.zeros((1, 8, 8, channels)))  # creates all variables

    def get_config(self):
        return {**super().get_config(), **self.settings}

    def call(self, images, training=None):
        """float32 `(batch, height, width, channels)` in `[0, 1]` to logits float32 `(batch,)`."""
        features = 2.0 * images - 1.0
        for conv in self.convs:
            features = conv(features)
            # Not tf.nn.leaky_relu: TensorFlow's graph optimiser gives up all fusions of a step that holds its gradient.
            features = tf.maximum(features, 0.2 * features)
        return tf.cast(self.head(tf.reduce_mean(features, axis=[1, 2]))[:, 0], self.variable_dtype)
