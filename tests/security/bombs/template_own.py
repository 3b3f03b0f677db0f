"""A client's own chat template, which would be a program: not taken."""

from __future__ import annotations

from tests.security.bomb import CHAT, HI, refused

attack = refused(
    CHAT,
    {**HI, "chat_template": "{% for i in range(10**9) %}x{% endfor %}"},
    {**HI, "chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}"},
    says="chat_template",
)
