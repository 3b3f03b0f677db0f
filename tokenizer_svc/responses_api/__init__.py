"""OpenAI's Responses API: its requests as chats, answers in its shapes, and conversations that are kept."""
