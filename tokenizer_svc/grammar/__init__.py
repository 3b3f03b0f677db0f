"""Grammars at the door: what clients ask for, checked and compiled in children that can be killed."""
