"""Grammars where the logits are: vocabulary, masks, transitions and forced runs."""
