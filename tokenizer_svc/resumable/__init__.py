"""Answers that outlive their connection: a log per answer, whoever writes it, and whoever reads it."""
