"""HTTP front door: validation, chat templates, tokenisation, SSE."""
