"""How the layers of a model are connected. Keras keeps this under private names, which are used here alone."""

import keras


def is_layer_graph(model) -> bool:
    """Whether a model computes what its graph of layers says: functional or Sequential, with Keras's own `call`."""
    # The class has no public name. If it moves, loading any classifier fails here with an AttributeError.
    kinds = (keras.Sequential, keras.src.models.Functional)
    return any(isinstance(model, kind) and type(model).call is kind.call for kind in kinds)


def producer_of(tensor) -> keras.Operation:
    """Returns the layer that made a symbolic tensor, such as a model's output or a layer's input."""
    # Only the tensor knows it. If it moves, no softmax can be removed and no normalisation folded.
    return tensor._keras_history.operation


def is_called_once(layer: keras.layers.Layer) -> bool:
    """Whether a layer has one place in the graph; a shared layer has several."""
    # `layer.input` raises for a shared layer, but so it does for one that was never called. If it moves, folding fails.
    return len(layer._inbound_nodes) == 1


def feeds_one_layer(layer: keras.layers.Layer) -> bool:
    """Whether one other layer alone takes what a layer puts out."""
    # No public property counts them. If it moves, folding fails.
    return len(layer._outbound_nodes) == 1


def all_layers(network: keras.Model) -> list[keras.Layer]:
    """Returns a network and all its layers, at any depth.

    Private in Keras: `_flatten_layers`; public are only the layers of the first depth.
    """
    return list(network._flatten_layers())
