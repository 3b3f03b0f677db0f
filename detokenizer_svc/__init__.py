"""Tokens to text: UTF-8 boundaries and stop strings."""
