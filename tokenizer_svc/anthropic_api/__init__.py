"""Anthropic's Messages API: its requests as chats, and answers in its shapes."""
