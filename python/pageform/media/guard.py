"""Where pageform may fetch from: URLs are read by one strict parser, and addresses judged after they were looked up.

A URL in a message may come from a stranger who wants the program's network position: the cloud's metadata service, a
router's page, a database without a password. So a URL is refused unless it is plain http(s) to an ordinary host and
port, and `fetch` connects only to addresses that `Guard.admit` has seen.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from ..core.errors import ParameterError
from .errors import FetchRefused

Resolver = Callable[[str, int], Sequence[str]]
"""Host and port → IP addresses as text. Raises OSError for a host that is not known."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_IETF = ipaddress.IPv6Network("2001::/23")
"""Teredo, ORCHID and others: nothing there is an ordinary host."""
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "::1/128", "fc00::/7")
_LONGEST_URL = 8192


def resolve(host: str, port: int) -> list[str]:
    """The system's own look-up."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Guard:
    """What a fetch may reach and spend. The defaults let only public addresses through.

    `allow_hosts`: if given, only these hosts (`"cdn.example.com"`, or `".example.com"` for all below it).
    `allow_private`: True lets private and loopback addresses through too, a tuple of networks (`"10.1.0.0/16"`) only
    those. Link-local addresses, where clouds keep credentials, need to be named by a network.
    `ports`: those that may be connected to, None for any. `max_bytes` caps what a fetch reads (each kind of media has a
    limit besides); `timeout` is for all of a fetch, redirects included, in seconds.
    """

    allow_hosts: frozenset[str] | None = None
    allow_private: bool | tuple[str, ...] = False
    ports: frozenset[int] | None = frozenset((80, 443))
    max_bytes: int = 32 << 20
    timeout: float = 30.0
    max_redirects: int = 5
    resolver: Resolver = field(default=resolve, compare=False)

    def __post_init__(self) -> None:
        for name in ("allow_hosts", "ports"):
            given = getattr(self, name)
            if isinstance(given, (str, int)):
                raise ParameterError(name, given, "is not a set", "Give a set, or None for any.")
            object.__setattr__(self, name, None if given is None else frozenset(given))
        if self.max_redirects < 0 or not self.max_bytes > 0 or not self.timeout > 0:
            limits = (self.max_bytes, self.timeout, self.max_redirects)
            raise ParameterError("max_bytes, timeout, max_redirects", limits, "are no limits", "Give positive numbers.")
        if not isinstance(self.allow_private, bool):
            object.__setattr__(self, "allow_private", tuple(self.allow_private))
        try:
            self._networks()
        except ValueError as error:
            remedy = 'Give True or networks such as "10.1.0.0/16".'
            raise ParameterError("allow_private", self.allow_private, f"holds no network: {error}", remedy) from error

    def check_url(self, url: str) -> SplitResult:
        """The parts of a URL that may be looked up. Raises FetchRefused."""
        parts = checked_url(url)
        host, port = host_of(parts), port_of(parts)
        if self.ports is not None and port not in self.ports:
            allowed = ", ".join(map(str, sorted(self.ports)))
            raise FetchRefused(
                "url", shown(url), f"port {port} is not allowed", f"Allowed: {allowed} (Guard(ports=…))."
            )
        if self.allow_hosts is not None and not any(_matches(host, pattern) for pattern in self.allow_hosts):
            remedy = "Add it to Guard(allow_hosts=…) if it is to be trusted."
            raise FetchRefused("url", shown(url), f"host {host} is not among those allowed", remedy)
        return parts

    def admit(self, url: str, addresses: Sequence[str]) -> list[str]:
        """The addresses of a host, all of which must be allowed: a name with a public and a private address is a trap.

        Raises FetchRefused. Connect to what this returns and to nothing else, or the name may be looked up differently
        the next time (DNS rebinding).
        """
        if not addresses:
            raise FetchRefused("url", shown(url), "its host has no address", "Check the URL.")
        for text in addresses:
            if not self._allows(text):
                remedy = "Allow it with Guard(allow_private=…) if it is to be trusted."
                raise FetchRefused("url", shown(url), f"its host has the address {text}, which is not public", remedy)
        return list(addresses)

    def _allows(self, text: str) -> bool:
        try:
            address = unwrap(ipaddress.ip_address(text))
        except ValueError:
            return False
        return is_public(address) or any(address in network for network in self._networks())

    def _networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        allowed = _PRIVATE if self.allow_private is True else self.allow_private or ()
        return [ipaddress.ip_network(network) for network in allowed]


def is_public(address: Address) -> bool:
    """Whether an address is an ordinary host of the internet. Give it unwrapped."""
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    return isinstance(address, ipaddress.IPv4Address) or (address in _GLOBAL_UNICAST and address not in _IETF)


def is_address(host: str) -> bool:
    """Whether the host of a checked URL is an IP address, which need not be looked up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def unwrap(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one that stands for it (mapped, compatible, NAT64, 6to4), else the address."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.ipv4_mapped is not None or address in _NAT64:
        return low
    if address in _COMPATIBLE and int(address) > 1:  # :: and ::1 are no IPv4 addresses
        return low
    return address.sixtofour or address


def checked_url(url: str) -> SplitResult:
    """The parts of a plain http(s) URL. Raises FetchRefused for anything that two parsers might read differently."""
    if not isinstance(url, str) or not url:
        raise FetchRefused("url", url, "is not text", "Give an http or https URL.")
    if len(url) > _LONGEST_URL:
        raise FetchRefused("url", url[:60] + "…", f"is longer than {_LONGEST_URL} characters", "Give a shorter one.")
    if any(not character.isprintable() or character in ' \\"<>^`{|}' for character in url):
        raise FetchRefused("url", shown(url), "holds characters that no URL has", "Percent-encode them.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise FetchRefused("url", shown(url), f"is not a URL: {error}", "Give an http or https URL.") from error
    if parts.scheme not in _PORTS:
        raise FetchRefused("url", shown(url), "is neither http nor https", "Give an http or https URL.")
    if "@" in parts.netloc:
        remedy = "Fetch the file yourself and pass its bytes."
        raise FetchRefused("url", shown(url), "holds a user name or password", remedy)
    if port == 0:
        raise FetchRefused("url", shown(url), "names port 0", "Give an http or https URL.")
    _check_host(url, parts)
    return parts


def port_of(parts: SplitResult) -> int:
    """The port that a checked URL names or means."""
    return parts.port or _PORTS[parts.scheme]


def host_of(parts: SplitResult) -> str:
    """The host of a checked URL in ASCII (IDNA), lower case, without a final dot."""
    host = parts.hostname or ""
    return host if ":" in host else host.encode("idna").decode("ascii").lower().rstrip(".")


def shown(url: str) -> str:
    """A URL as messages show it: without a user, a query or a fragment, which may be secrets."""
    text = re.sub(r"//[^/?#]*@", "//…@", str(url))
    text = re.sub(r"[?#].*", "?…", text, count=1, flags=re.DOTALL)
    return text if len(text) <= 200 else text[:200] + "…"


def _check_host(url: str, parts: SplitResult) -> None:
    host = parts.hostname or ""
    if "[" in parts.netloc or ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise FetchRefused("url", shown(url), f"its host is no IPv6 address: {error}", "Check it.") from error
        if "%" in host:
            raise FetchRefused("url", shown(url), "its address has a zone", "Give an address of the internet.")
        return
    try:
        name = host_of(parts)
    except UnicodeError as error:
        raise FetchRefused("url", shown(url), f"its host is no domain name: {error}", "Check it.") from error
    labels = name.split(".")
    if not name or len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise FetchRefused("url", shown(url), "its host is no domain name", "Check it.")
    # A name that ends in a number is an IPv4 address to some parsers: 2130706433, 0x7f.1 and 127.1 all mean 127.0.0.1.
    if re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1]):
        try:
            ipaddress.IPv4Address(name)
        except ValueError as error:
            remedy = "Write the address as four decimal numbers."
            raise FetchRefused("url", shown(url), "its host is an IPv4 address in disguise", remedy) from error


def _matches(host: str, pattern: str) -> bool:
    pattern = pattern.lower()
    return host.endswith(pattern) if pattern.startswith(".") else host == pattern
