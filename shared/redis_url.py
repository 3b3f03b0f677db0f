"""Where Redis is, and how to get in: the URL of the settings with what lies in files. Never to be shown to anybody."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

from shared.config import Settings
from shared.errors import UserError


def connection_url(settings: Settings) -> str:
    """The URL to connect to, with user, password and certificates. Raises UserError."""
    url = urlsplit(settings.redis_url)
    if settings.redis_ca_file is not None:
        if url.scheme != "rediss":
            raise UserError(
                "--redis-ca-file is for servers that are reached with TLS: let --redis begin with rediss://"
            )
        query = dict(parse_qsl(url.query)) | {"ssl_ca_certs": str(_present(settings.redis_ca_file, "--redis-ca-file"))}
        url = url._replace(query=urlencode(query))
    if settings.redis_user is None and settings.redis_password_file is None:
        return _joined(url)
    user = settings.redis_user or url.username or ""
    password = url.password or ""
    if settings.redis_password_file is not None:
        password = quote(_password(settings.redis_password_file), safe="")
    place = url.netloc.rpartition("@")[2]
    return _joined(url._replace(netloc=f"{quote(user, safe='')}:{password}@{place}"))


def public_url(url: str) -> str:
    """A URL for people: without user, password and options."""
    parts = urlsplit(url)
    return _joined(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _joined(url: SplitResult) -> str:
    """With both slashes also where there is no host: urlunsplit leaves them out for schemes it does not know."""
    joined = urlunsplit(url)
    bare = f"{url.scheme}:"
    return joined if joined.startswith(f"{bare}//") else f"{bare}//{joined.removeprefix(bare)}"


def _password(file: Path) -> str:
    try:
        password = _present(file, "--redis-password-file").read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--redis-password-file {file}: cannot be read") from error
    if not password:
        raise UserError(f"--redis-password-file {file} is empty: write the password into it")
    return password


def _present(file: Path, flag: str) -> Path:
    path = file.expanduser()
    if not path.is_file():
        raise UserError(f"{flag} {file}: no such file")
    return path
