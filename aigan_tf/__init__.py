"""AI-GAN (arXiv 2002.02196v1): one generator of adversarial perturbations for every target class."""

import os

# The model's training steps are TensorFlow's, whatever backend keras.json or the environment names.
os.environ["KERAS_BACKEND"] = "tensorflow"
# Must be set before TensorFlow is imported. TensorFlow turns oneDNN on by itself only on the newest
# processors; on an AMD EPYC without AVX-512 it makes a training step of a ResNet-20 1.75 times as fast.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# TensorFlow's notes on its build, missing GPUs and graph rewrites it gave up; real errors reach Python as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
