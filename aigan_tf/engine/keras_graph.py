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


def flattened(model: keras.Model) -> keras.Model:
    """Returns a copy of a graph of layers, weights included, that holds the layers of the graphs in it, and no graph.

    Its layers have one place in the graph each, unless they are shared.
    """

    def copy_layer(layer):
        if not is_layer_graph(layer):
            return layer
        inner = flattened(layer)
        copy = keras.models.clone_model(inner, clone_function=lambda each: _copied(each, f"{layer.name}_{each.name}"))
        copy.set_weights(inner.get_weights())
        return copy

    def call_layer(layer, *args, **kwargs):
        return layer.call(*args) if is_layer_graph(layer) else layer(*args, **kwargs)

    if any(map(is_layer_graph, model.layers)):
        model = keras.models.clone_model(model, None, copy_layer, call_layer)
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs  # as a list, Keras would warn at every call
    copy = keras.models.clone_model(keras.Model(inputs, model.outputs), clone_function=_copied)
    copy.set_weights(model.get_weights())
    return copy


def _copied(layer, name=None):
    return type(layer).from_config(layer.get_config() | ({"name": name} if name else {}))
