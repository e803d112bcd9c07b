"""The guard: hostile URLs and addresses, by table and by chance. No socket is opened here."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pageform.core.errors import ParameterError
from pageform.media import FetchRefused, Guard
from pageform.media.guard import checked_url, host_of, is_public, resolve, shown, unwrap

REFUSED_URLS = [
    # other schemes
    "file:///etc/passwd",
    "ftp://example.com/a",
    "gopher://example.com/_x",
    "javascript:alert(1)",
    "//example.com/a.png",
    "example.com/a.png",
    "http:example.com",
    "",
    # users and passwords, and what they hide
    "http://user@example.com/",
    "http://user:secret@example.com/",
    "http://example.com@127.0.0.1/",
    "http://127.0.0.1:80@example.com/",
    "http://example.com:80@127.0.0.1:80@example.com/",
    # what two parsers read differently
    "http://example.com\\@127.0.0.1/",
    "http://127.0.0.1\\.example.com/",
    "http://exam ple.com/",
    "http://example.com/\r\nHost: internal",
    "http://example.com\t.internal/",
    "http://example.com\n/",
    "http://exa\u00admple.com\u200b/",
    "http://[::1/",
    "http://::1/",
    "http://[::1%25lo]/",
    "http://[fe80::1%eth0]/",
    "http://[v1.x]/",
    "http://127.0.0.1%2f@example.com",
    "http://127%2e0.0.1/",
    "http://example..com/",
    "http://.example.com/",
    "http://-example.com/",
    "http:///a.png",
    "http://:80/",
    "http://?a",
    "http://example.com:99999/",
    "http://example.com:x/",
    "http://example.com:0/",
    # IPv4 addresses in disguise
    "http://2130706433/",
    "http://017700000001/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0x7f.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0177.0.0.1/",
    "http://0/",
    "http://127.0.0.1.1/",
    "http://256.1.1.1/",
    "http://00000127.0.0.1/",
    "http://example.123/",
    "http://0x/",
    "http://１２７.1/",
    # long
    "http://example.com/" + "a" * 9000,
]


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_urls_that_are_refused_as_they_stand(url: str) -> None:
    with pytest.raises(FetchRefused) as caught:
        checked_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.com/a.png?x=1#y", "example.com"),
        ("HTTPS://EXAMPLE.com.:443/", "example.com"),
        ("https://bücher.example/ä.png", "xn--bcher-kva.example"),
        ("https://example。com/", "example.com"),
        ("https://a_b.example-1.com/", "a_b.example-1.com"),
        ("http://93.184.216.34/", "93.184.216.34"),
        ("http://[2606:2800:220:1::1]/", "2606:2800:220:1::1"),
        ("http://127.0.0.1/", "127.0.0.1"),  # refused by its address, not by its form
        ("http://１２７.0.0.1/", "127.0.0.1"),
        ("http://localhost/", "localhost"),
    ],
)
def test_urls_that_are_read(url: str, host: str) -> None:
    assert host_of(checked_url(url)) == host


NOT_PUBLIC = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::2",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:7f00:1",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2002:c0a8:101::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "not an address",
    "127.1",
    "",
]
PUBLIC = ["93.184.216.34", "8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
URL = "https://example.com/a.png"


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_refused(address: str) -> None:
    with pytest.raises(FetchRefused, match="which is not public"):
        Guard().admit(URL, [address])
    with pytest.raises(FetchRefused):  # among others, too
        Guard().admit(URL, ["93.184.216.34", address])


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_that_are_admitted(address: str) -> None:
    assert Guard().admit(URL, [address]) == [address]


def test_a_host_without_addresses_is_refused() -> None:
    with pytest.raises(FetchRefused, match="has no address"):
        Guard().admit(URL, [])


EMBEDDINGS = [
    lambda v4: f"::ffff:{v4}",
    lambda v4: f"::{v4}",
    lambda v4: f"64:ff9b::{v4}",
    lambda v4: str(ipaddress.IPv6Address((0x2002 << 112) | (int(v4) << 80) | 1)),
]


@given(st.ip_addresses(v=4), st.sampled_from(EMBEDDINGS))
@example(ipaddress.IPv4Address("169.254.169.254"), EMBEDDINGS[1])
def test_an_ipv4_address_inside_an_ipv6_one_is_judged_as_itself(v4: ipaddress.IPv4Address, embed: Any) -> None:
    if int(v4) < 2 and embed is EMBEDDINGS[1]:
        return  # these are :: and ::1
    assert unwrap(ipaddress.ip_address(embed(v4))) == v4
    assert is_public(unwrap(ipaddress.ip_address(embed(v4)))) == is_public(v4)


@given(st.ip_addresses())
def test_public_addresses_are_global_and_nothing_else(address: Any) -> None:
    if is_public(unwrap(address)):
        inner = unwrap(address)
        flags = ("is_private", "is_loopback", "is_link_local", "is_multicast", "is_reserved", "is_unspecified")
        assert not any(getattr(inner, flag) for flag in flags)


def test_the_systems_resolver_may_read_disguised_addresses() -> None:
    """Why addresses are judged after the look-up: getaddrinfo takes forms that no URL should have."""
    assert resolve("2130706433", 80) == ["127.0.0.1"]
    assert resolve("0x7f.1", 80) == ["127.0.0.1"]


@given(st.text(max_size=40), st.text(max_size=20))
def test_no_text_can_surprise_the_parser(host: str, path: str) -> None:
    url = f"http://{host}/{path}"
    try:
        parts = checked_url(url)
    except FetchRefused:
        return
    assert parts == urlsplit(url)
    assert "@" not in parts.netloc
    name = host_of(parts)
    assert name.isascii()
    assert name
    assert name == name.lower()


def test_private_addresses_must_be_allowed_explicitly() -> None:
    assert Guard(allow_private=True).admit(URL, ["127.0.0.1", "::1", "10.0.0.1", "fd00::1", "::ffff:10.0.0.1"])
    for address in ("169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "240.0.0.1", "2002:a9fe:a9fe::1"):
        with pytest.raises(FetchRefused):
            Guard(allow_private=True).admit(URL, [address])
    named = Guard(allow_private=("10.1.0.0/16", "169.254.169.254/32"))
    assert named.admit(URL, ["10.1.2.3", "169.254.169.254", "8.8.8.8"])
    with pytest.raises(FetchRefused):
        named.admit(URL, ["10.2.0.1"])
    with pytest.raises(FetchRefused):
        named.admit(URL, ["127.0.0.1"])


def test_hosts_and_ports_can_be_limited() -> None:
    guard = Guard(allow_hosts={"cdn.example.com", ".example.org"})  # type: ignore[arg-type]
    for url in ("https://cdn.example.com/a", "https://CDN.example.com./a", "http://a.b.example.org/"):
        guard.check_url(url)
    for url in ("https://example.com/", "https://xcdn.example.com/", "https://example.org/", "https://badexample.org/"):
        with pytest.raises(FetchRefused, match="not among those allowed"):
            guard.check_url(url)
    for url in ("http://example.com:22/", "http://example.com:8080/", "https://example.com:6379/"):
        with pytest.raises(FetchRefused, match="port"):
            Guard().check_url(url)
    Guard(ports=None).check_url("http://example.com:8080/")
    Guard(ports={8080}).check_url("http://example.com:8080/")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"allow_hosts": "example.com"},
        {"ports": 80},
        {"timeout": 0},
        {"max_bytes": 0},
        {"max_redirects": -1},
        {"allow_private": ("10.0.0.0/33",)},
        {"allow_private": ("10.0.0.1/8",)},
    ],
)
def test_odd_options_are_errors(options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError) as caught:
        Guard(**options)
    assert set(options) <= set(caught.value.field.split(", "))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://u:p@example.com/a?key=1#f", "https://…@example.com/a?…"),
        ("https://example.com/a#f", "https://example.com/a?…"),
        ("https://example.com/a", "https://example.com/a"),
    ],
)
def test_messages_show_no_secrets(url: str, text: str) -> None:
    assert shown(url) == text
