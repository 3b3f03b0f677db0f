"""The frontend language: programs of generations. Needs neither torch nor redis."""
