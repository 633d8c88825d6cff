"""Trains a classifier and an AI-GAN generator against it; see README.md or --help."""

from aigan_tf import cli

if __name__ == "__main__":
    cli.train()
