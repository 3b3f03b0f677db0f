"""Model configurations and the decoder."""
