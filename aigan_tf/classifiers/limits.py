"""What a foreign model may ask for: a table of limits. A model beyond one is refused before it costs memory or time."""

import math
from collections.abc import Sequence

# Of a file.
MAX_EXPANSION = 100  # times a file's size that its content may take
UNSUSPICIOUS = 2**26  # bytes that the content of any file may take
MAX_MEMBERS = 2**10  # files in an archive; Keras writes three and those of the layers' own
MAX_EXTRA_WEIGHTS = 2**24  # numbers that layers may hold beyond those stored, such as the factors of LoRA
# Of a configuration.
MAX_CONFIG = 2**23  # bytes; EfficientNetB7 has 0.8 million
MAX_PARTS = 2**16  # layers, initializers, tensors between layers...; EfficientNetB7 has 4,000
MAX_COUNT = 2**12  # of what Keras does in loops of Python or with NumPy, by the arguments that count it
COUNTS = {"fft_length", "frame_length", "indices_or_sections", "k", "n", "num", "num_mel_bins", "sequence_length"}
# Of a computation.
MAX_GROWTH = 128  # times an image's values that one tensor may have; VGG16 has 21
UNSUSPICIOUS_VALUES = 2**24  # that one tensor may have for an image of any size
MAX_FIXED_BATCH = 64  # images of a model that takes no fewer at a time


def max_values(image_shape: Sequence[int], batch_size: int | None) -> int:
    """Returns how many values one tensor of a model may have, which takes `batch_size` images at a time; None for any."""
    images = min(batch_size or 1, MAX_FIXED_BATCH)
    return max(UNSUSPICIOUS_VALUES, MAX_GROWTH * images * math.prod(image_shape))
