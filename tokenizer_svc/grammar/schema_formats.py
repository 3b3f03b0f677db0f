r"""The values of JSON Schema's ``format`` that we enforce, as patterns in our dialect.

Each pattern is a part of what its RFC allows, chosen so that nothing in it is ever wrong: dates know leap years, times
no leap seconds, names of hosts no double hyphens, addresses of mail no quotes. What may be open in the RFC is mostly
bounded here. A format that no draft knows says nothing, as the standard has it.
Sources: JSON Schema 2020-12 validation, section 7.3; RFC 3339 (dates), RFC 4122 (UUID), RFC 5321 (mail), RFC 1123
(hosts), RFC 4291 (IPv6), RFC 3986 (URI), RFC 6901 (pointers).
"""

from __future__ import annotations

_LEAP = "(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)"
_DATE = (
    "(?:[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+\-](?:[01][0-9]|2[0-3]):[0-5][0-9])"

_COUNT = "[0-9]{1,9}"
_CLOCK = f"T(?:{_COUNT}H(?:{_COUNT}M(?:{_COUNT}S)?)?|{_COUNT}M(?:{_COUNT}S)?|{_COUNT}S)"
_CALENDAR = f"(?:{_COUNT}Y(?:{_COUNT}M(?:{_COUNT}D)?)?|{_COUNT}M(?:{_COUNT}D)?|{_COUNT}D)"
_DURATION = f"P(?:{_CALENDAR}(?:{_CLOCK})?|{_CLOCK}|{_COUNT}W)"

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~]"
_LOCAL = rf"{_ATOM}(?:[.\-]?{_ATOM}){{0,31}}"
_LABEL = "[a-z0-9](?:-?[a-z0-9]){0,15}"
_TOP = "[a-z](?:-?[a-z0-9]){0,15}"  # not all digits, or it could be the end of an IPv4 address
_HOST = rf"(?:{_LABEL}\.){{0,3}}{_TOP}"
_EMAIL = rf"{_LOCAL}@(?:{_LABEL}\.){{1,3}}{_TOP}"

_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_BYTE}(?:\.{_BYTE}){{3}}"
_GROUP = "[0-9a-fA-F]{1,4}"


def _ipv6() -> str:
    """Eight groups, or fewer on both sides of a ``::`` that stands for at least one."""
    options = [f"{_GROUP}(?::{_GROUP}){{7}}"]
    for before in range(8):
        start = f"{_GROUP}(?::{_GROUP}){{{before - 1}}}" if before else ""
        end = f"(?:{_GROUP}(?::{_GROUP}){{0,{6 - before}}})?" if before < 7 else ""
        options.append(f"{start}::{end}")
    return "|".join(options)


_ESCAPED = "%[0-9A-F]{2}"
_PATH_CHAR = rf"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|{_ESCAPED})"
_PATH = rf"(?:/{_PATH_CHAR}*)*"
_TAIL = rf"(?:\?(?:{_PATH_CHAR}|[/?])*)?(?:#(?:{_PATH_CHAR}|[/?])*)?"
_URI = rf"(?:https?|ftp|wss?)://{_HOST}(?::[1-9][0-9]{{0,3}})?{_PATH}{_TAIL}"
_REFERENCE = rf"(?:{_URI}|/{_PATH_CHAR}+{_PATH}{_TAIL})"
_POINTER = "(?:/(?:[^~/]|~[01])*)*"

FORMATS: dict[str, str] = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": _DURATION,
    "email": _EMAIL,
    "idn-email": _EMAIL,
    "hostname": _HOST,
    "idn-hostname": _HOST,
    "ipv4": _IPV4,
    "ipv6": _ipv6(),
    "uuid": "-".join(f"[0-9a-fA-F]{{{count}}}" for count in (8, 4, 4, 4, 12)),
    "uri": _URI,
    "iri": _URI,
    "uri-reference": _REFERENCE,
    "iri-reference": _REFERENCE,
    "uri-template": _REFERENCE,
    "json-pointer": _POINTER,
    "relative-json-pointer": f"(?:0|[1-9][0-9]{{0,3}})(?:#|{_POINTER})",
}
UNENFORCED = frozenset(("regex",))
"""Formats of the standard that no pattern can hold."""
