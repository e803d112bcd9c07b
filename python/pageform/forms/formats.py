"""Patterns for string formats, at least as narrow as what Pydantic accepts.

A grammar of our own for each format, because a JSON Schema `format` is wider than Pydantic's types: it knows the year
0000 and 29 February of any year. Patterns are in the syntax of Rust's `regex` without look-around, anchored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# The digits of leap years: a last pair divisible by 4 and not 00, or 00 after a first pair divisible by 4 (not 0000).
_LEAP = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_YEAR = r"(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
_DATE = (
    rf"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    rf"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
_ZONE = r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_HEX = "[0-9a-fA-F]"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_IPV6 = (
    rf"(?:(?:{_HEX}{{1,4}}:){{7}}{_HEX}{{1,4}}|::(?:{_HEX}{{1,4}}(?::{_HEX}{{1,4}}){{0,6}})?"
    + "".join(
        rf"|(?:{_HEX}{{1,4}}:){{{head}}}(?::{_HEX}{{1,4}}){{1,{7 - head}}}|(?:{_HEX}{{1,4}}:){{{head}}}:"
        for head in range(1, 7)
    )
    + ")"
)
_LABEL = r"[a-z0-9]{1,20}(?:-[a-z0-9]{1,20}){0,3}"  # no "--", which would make it punycode
_LAST_LABEL = r"[a-z][a-z0-9]{0,20}(?:-[a-z0-9]{1,20}){0,3}"  # one that begins with a digit might be read as a number
# Names such as .test and .local are refused in addresses; none of them is a country or so short.
_MAIL_HOST = rf"{_LABEL}(?:\.{_LABEL}){{0,3}}\.(?:[a-z]{{2,3}}|info|name|online|store|email|tech)"
_EMAIL = rf"[A-Za-z0-9_]{{1,24}}(?:[.+-][A-Za-z0-9_]{{1,12}}){{0,3}}@{_MAIL_HOST}"
_HOST = rf"(?:{_LABEL}\.){{0,4}}{_LAST_LABEL}"
_PORT = r"(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}))?"
_USER = r"(?:[A-Za-z0-9._~-]{1,32}(?::[A-Za-z0-9._~-]{1,64})?@)?"
_URL_SIGNS = r"A-Za-z0-9._~!$&()*+,;=:@%/-"
_URL_TAIL = rf"(?:/[{_URL_SIGNS}]{{0,200}})?(?:\?[{_URL_SIGNS}?]{{0,100}})?(?:#[{_URL_SIGNS}?]{{0,100}})?"
_BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?"


def _uuid(version: str) -> str:
    variant = "[89abAB]" if version != _HEX else _HEX
    return rf"^{_HEX}{{8}}-{_HEX}{{4}}-{version}{_HEX}{{3}}-{variant}{_HEX}{{3}}-{_HEX}{{12}}$"


def url(schemes: Sequence[str] | None = None) -> str:
    """The pattern of URLs with one of the schemes, or with any. A file has no host."""
    known = [re.escape(scheme) for scheme in schemes or () if scheme != "file"]
    options = [rf"file:///[{_URL_SIGNS}]{{1,200}}"] if schemes and "file" in schemes else []
    if known or not schemes:
        named = "|".join(known) or "[a-eg-z][a-z0-9]{1,11}|ftps?"
        options.append(rf"(?:{named})://{_USER}(?:{_HOST}|{_IPV4}){_PORT}{_URL_TAIL}")
    return f"^(?:{'|'.join(options)})$"


def base64_of(low: int, high: int | None) -> str:
    """The pattern of base64, in the alphabet for URLs, that stands for so many bytes."""
    options = []
    for tail, text in enumerate(("", "[A-Za-z0-9_-][AQgw]==", "[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048]=")):
        least, most = max(0, -((tail - low) // 3)), None if high is None else (high - tail) // 3
        if most is None or least <= most:
            options.append(f"(?:[A-Za-z0-9_-]{{4}}){{{least},{'' if most is None else most}}}{text}")
    return f"^(?:{'|'.join(options)})$"


_ASCII64 = r"^(?:[A-Za-f][A-HQ-Xg-nw-z0-3][ABEFIJMNQRUVYZcdghklopstwx014589][A-Za-z0-9+/])*"
_ASCII64 += r"(?:[A-Za-f](?:[AQgw]==|[A-HQ-Xg-nw-z0-3][AEIMQUYcgkosw048]=))?$"
TEXT_AS_BASE64 = {"base64": _ASCII64, "base64url": _ASCII64.replace("+/", "_-")}
"""Base64 of bytes below 128, which are text in any encoding: the highest bit of each is a bit of a certain sign."""


def _networks() -> str:
    """IPv4 networks: the bits after the prefix are zero."""
    made = []
    for prefix in range(33):
        octets = [_OCTET] * (prefix // 8)
        if prefix % 8:
            step = 1 << 8 - prefix % 8
            octets.append(f"(?:{'|'.join(str(value) for value in range(0, 256, step))})")
        made.append("\\.".join([*octets, *["0"] * (4 - len(octets))]) + f"/{prefix}")
    return f"(?:{'|'.join(made)})"


_PATH = r"^[^\x00-\x1f\x7f]{1,200}$"
_REAL = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_N4, _N6 = "[1-9][0-9]{0,3}", "[1-9][0-9]{0,5}"
_SECONDS = rf"(?:{_N4}(?:\.[0-9]{{1,6}})?|0\.[0-9]{{0,5}}[1-9])S"
_CLOCK = rf"T(?:{_N4}H(?:{_N4}M)?(?:{_SECONDS})?|{_N4}M(?:{_SECONDS})?|{_SECONDS})"
DURATION = rf"P(?:{_N4}W|(?:{_N4}Y(?:{_N4}D)?|{_N6}D)(?:{_CLOCK})?|{_CLOCK})"
"""A duration above zero, as Pydantic writes and reads it: a year is 365 days, and no part is zero."""

PATTERNS: dict[str, str] = {
    "date": rf"^{_DATE}$",
    "time": rf"^{_TIME}{_ZONE}?$",
    "date-time": rf"^{_DATE}T{_TIME}{_ZONE}?$",
    "aware-date-time": rf"^{_DATE}T{_TIME}{_ZONE}$",
    "naive-date-time": rf"^{_DATE}T{_TIME}$",
    "aware-time": rf"^{_TIME}{_ZONE}$",
    "naive-time": rf"^{_TIME}$",
    "duration": (
        r"^P(?:[0-9]{1,5}W|[0-9]{1,5}D(?:T(?:[0-9]{1,4}H(?:[0-9]{1,4}M)?(?:[0-9]{1,4}S)?"
        r"|[0-9]{1,4}M(?:[0-9]{1,4}S)?|[0-9]{1,4}S))?|T(?:[0-9]{1,4}H(?:[0-9]{1,4}M)?(?:[0-9]{1,4}S)?"
        r"|[0-9]{1,4}M(?:[0-9]{1,4}S)?|[0-9]{1,4}S))$"
    ),
    "timedelta": rf"^(?:-?{DURATION}|PT0S)$",
    "uuid": _uuid(_HEX),
    **{f"uuid{version}": _uuid(str(version)) for version in range(1, 9)},
    "ipv4": rf"^{_IPV4}$",
    "ipv6": rf"^{_IPV6}$",
    "ipv4network": rf"^{_networks()}$",
    "ipv6network": rf"^{_IPV6}/128$",
    "ipv4interface": rf"^{_IPV4}(?:/(?:3[0-2]|[12]?[0-9]))?$",
    "ipv6interface": rf"^{_IPV6}(?:/(?:12[0-8]|1[01][0-9]|[1-9]?[0-9]))?$",
    "ipvanyaddress": rf"^(?:{_IPV4}|{_IPV6})$",
    "ipvanynetwork": rf"^(?:{_networks()}|{_IPV6}/128)$",
    "ipvanyinterface": rf"^(?:{_IPV4}(?:/(?:3[0-2]|[12]?[0-9]))?|{_IPV6}(?:/(?:12[0-8]|1[01][0-9]|[1-9]?[0-9]))?)$",
    "email": rf"^{_EMAIL}$",
    "hostname": rf"^{_HOST}$",
    "uri": url(("https", "http")),
    "base64": rf"^{_BASE64}$",
    "base64url": rf"^{_BASE64.replace('+/', '_-')}$",
    "hex": r"^(?:[0-9a-f]{2})*$",
    "path": _PATH,
    "file-path": _PATH,
    "directory-path": _PATH,
    "fraction": r"^-?[0-9]{1,9}(?:/[1-9][0-9]{0,8})?$",
    "complex": rf"^(?:-?{_REAL}(?:[+-]{_REAL}j)?|-?{_REAL}j)$",
}
"""Format → pattern. `aware-…`, `naive-…`, `ipvany…`, `hex`, `fraction` and `complex` are Pydantic's types, not formats
of JSON Schema. `timedelta` is a duration of either sign. IPv6 networks are single hosts, because a network with host
bits set is refused."""

NARROWED: dict[str, str] = {
    **dict.fromkeys(("path", "file-path", "directory-path"), "1 to 200 characters"),
    **dict.fromkeys(("ipv6network", "ipvanynetwork"), "IPv6 networks of one host"),
    **dict.fromkeys(("email", "hostname", "uri"), "names of lower-case letters, digits and hyphens; limited length"),
    **dict.fromkeys(("fraction", "complex"), "at most 9 digits of a number, no exponent"),
    "timedelta": "at most 9,999 years",
}
"""What a pattern leaves out of what its type accepts and writes."""

UNCONSTRAINED = frozenset({"password", "binary"})
"""Formats that any text satisfies."""
