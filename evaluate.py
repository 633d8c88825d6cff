"""Measures a trained generator on the test split; see README.md or --help."""

from aigan_tf import cli

if __name__ == "__main__":
    cli.evaluate()
