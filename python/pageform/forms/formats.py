"""Patterns for string formats, at least as narrow as what Pydantic accepts.

A grammar of our own for each format, because a JSON Schema `format` is wider than Pydantic's types: it knows the year
0000 and 29 February of any year. Patterns are in the syntax of Rust's `regex` without look-around, anchored.
"""

from __future__ import annotations

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
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL}){{0,4}}\.[a-z]{{2,12}}"
_EMAIL = rf"[A-Za-z0-9_]+(?:[.+-][A-Za-z0-9_]+){{0,4}}@{_HOST}"
_URL_TAIL = r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,200})?(?:\?[A-Za-z0-9._~=&+,-]{1,100})?"
_BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?"


def _uuid(version: str) -> str:
    variant = "[89abAB]" if version != _HEX else _HEX
    return rf"^{_HEX}{{8}}-{_HEX}{{4}}-{version}{_HEX}{{3}}-{variant}{_HEX}{{3}}-{_HEX}{{12}}$"


def url(schemes: tuple[str, ...] = ("https", "http"), host_required: bool = True) -> str:
    """The pattern of URLs with one of the schemes."""
    host = rf"(?:{_HOST}|{_IPV4}|localhost)(?::[1-9][0-9]{{0,3}})?"
    return rf"^(?:{'|'.join(schemes)})://{host if host_required else f'(?:{host})?'}{_URL_TAIL}$"


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
    "uuid": _uuid(_HEX),
    **{f"uuid{version}": _uuid(str(version)) for version in range(1, 9)},
    "ipv4": rf"^{_IPV4}$",
    "ipv6": rf"^{_IPV6}$",
    "ipv4network": rf"^{_IPV4}/32$",
    "ipv6network": rf"^{_IPV6}/128$",
    "ipv4interface": rf"^{_IPV4}(?:/(?:3[0-2]|[12]?[0-9]))?$",
    "ipv6interface": rf"^{_IPV6}(?:/(?:12[0-8]|1[01][0-9]|[1-9]?[0-9]))?$",
    "ipvanyaddress": rf"^(?:{_IPV4}|{_IPV6})$",
    "ipvanynetwork": rf"^(?:{_IPV4}/32|{_IPV6}/128)$",
    "ipvanyinterface": rf"^(?:{_IPV4}|{_IPV6})$",
    "email": rf"^{_EMAIL}$",
    "hostname": rf"^{_HOST}$",
    "uri": url(),
    "base64": rf"^{_BASE64}$",
    "base64url": rf"^{_BASE64.replace('+/', '_-')}$",
    "hex": r"^(?:[0-9a-f]{2})*$",
    "path": r"^[A-Za-z0-9._/-]{1,200}$",
    "file-path": r"^[A-Za-z0-9._/-]{1,200}$",
    "directory-path": r"^[A-Za-z0-9._/-]{1,200}$",
    "fraction": r"^-?[0-9]{1,9}/[1-9][0-9]{0,8}$",
    "complex": r"^-?[0-9]{1,9}(?:\.[0-9]{1,6})?(?:[+-][0-9]{1,9}(?:\.[0-9]{1,6})?j)?$",
}
"""Format → pattern. `aware-…`, `naive-…`, `ipvany…`, `hex`, `fraction` and `complex` are Pydantic's types, not formats
of JSON Schema. Networks are single hosts, because a network with host bits set is refused."""

UNCONSTRAINED = frozenset({"password", "binary"})
"""Formats that any text satisfies."""
