"""What Keras and TensorFlow lack; the only package that touches their private API."""
