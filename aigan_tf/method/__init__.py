"""The paper: AI-GAN, its losses and networks, its attacker, its threat model. Start with aigan.py."""
