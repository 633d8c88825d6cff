"""AI-GAN (arXiv 2002.02196v1): one generator of adversarial perturbations for every target class."""
