"""The model under attack: architectures trained here, a user's own, hardened ones, black boxes."""
