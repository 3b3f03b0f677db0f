"""What may be reached from where: the front door serves nobody but this machine without a key, unless told to.

Knows nothing of how keys are checked.
"""

from __future__ import annotations

import ipaddress
import socket

from shared.config import Settings
from shared.errors import UserError


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address. A name counts as what it resolves to; one that does not, as no."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    if not host:  # every interface
        return False
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(address[0])).is_loopback for *_, address in found)


def public_host(settings: Settings) -> str:
    """The address under which clients reach the front door."""
    return settings.host if settings.published_host is None else settings.published_host


def check_exposure(settings: Settings) -> None:
    """Raises UserError where others than this machine could use the server without a key."""
    host = public_host(settings)
    has_keys = settings.api_keys is not None or settings.api_keys_file is not None
    if not (has_keys or settings.allow_unauthenticated or is_loopback(host)):
        raise UserError(
            f"{host or 'every address'} can be reached from other machines, and no API key is set: name a file of keys "
            "with --api-keys-file (or set ROOTSTREAM_API_KEYS), listen on 127.0.0.1, or say --allow-unauthenticated "
            "on a network where everybody may use this server"
        )
    has_admin_key = settings.admin_key is not None or settings.admin_key_file is not None
    if settings.admin_port is not None and not (has_admin_key or is_loopback(settings.admin_host)):
        raise UserError(
            f"--admin-host {settings.admin_host} can be reached from other machines, and no admin key is set: name a "
            "file that holds it with --admin-key-file (or set ROOTSTREAM_ADMIN_KEY), or leave --admin-host out"
        )
