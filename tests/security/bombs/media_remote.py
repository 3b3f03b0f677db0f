"""Pictures and sounds by address: a server that fetches them can be sent anywhere."""

from __future__ import annotations

from tests.security.bomb import CHAT, refused

PARTS = (
    {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data/"}},
    {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    {"type": "video_url", "video_url": {"url": "http://127.0.0.1:6379/"}},
    {"type": "file", "file": {"file_id": "x"}},
)
attack = refused(
    CHAT, *({"messages": [{"role": "user", "content": [part]}]} for part in PARTS), says="only text is served"
)
