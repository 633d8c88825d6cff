"""The SavedModel for TensorFlow Serving, and a client of it."""
