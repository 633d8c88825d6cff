"""A trained generator as an attack of other libraries: `art` for the Adversarial Robustness Toolbox, `foolbox`."""
