"""Peak memory of a computation, beyond what is held before it. Measure after a warm-up."""

from collections.abc import Callable

MIB = 2**20


def tensors_mib(run: Callable[[], object]) -> float:
    """Returns the MiB of TensorFlow's tensors while `run()` runs, on the first GPU or else the processor.

    On a processor TensorFlow's own pool counts them, which `timing` switches on. The size of the process would not
    tell, since it keeps freed memory.
    """
    import tensorflow as tf

    device = "GPU:0" if tf.config.list_physical_devices("GPU") else "CPU:0"
    tf.config.experimental.reset_memory_stats(device)
    before = tf.config.experimental.get_memory_info(device)["current"]
    run()
    return (tf.config.experimental.get_memory_info(device)["peak"] - before) / MIB
