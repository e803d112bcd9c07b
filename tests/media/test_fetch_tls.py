"""Fetching over TLS: certificates are checked against the host's name, though the connection goes to an address."""

from __future__ import annotations

import datetime
import ssl
import threading
import time
from pathlib import Path

import pytest
from hostile_server import INTERNET, answer, guard, serving
from media_samples import png

from pageform.media import FetchFailed, FetchRefused
from pageform.media.fetch import fetch

PNG = png()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of its own authority for cdn.example, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cdn.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("cdn.example")]), False)
        .add_extension(x509.BasicConstraints(True, 0), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(pem, form, serialization.NoEncryption())
    path.write_bytes(secret + made.public_bytes(pem))
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_certificates_are_checked_against_the_name(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(INTERNET, answer(PNG), tls) as server:
        with pytest.raises(FetchFailed, match="CERTIFICATE_VERIFY_FAILED"):
            fetch(f"https://cdn.example:{server.port}/a.png", guard())
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))  # now its authority is trusted
        assert fetch(f"https://cdn.example:{server.port}/a.png", guard()) == PNG
        with pytest.raises(FetchFailed, match="CERTIFICATE_VERIFY_FAILED"):
            fetch(f"https://other.example:{server.port}/a.png", guard())
        assert len(server.requests) == 1


def test_https_does_not_fall_back_to_http(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(INTERNET, answer(PNG)) as plain:
        hop = answer(b"", "302 Found", location=f"http://cdn.example:{plain.port}/a.png")
        with serving(INTERNET, hop, tls) as server, pytest.raises(FetchRefused, match="from https to http"):
            fetch(f"https://cdn.example:{server.port}/a.png", guard())
        assert plain.connections == 0


def test_a_handshake_that_never_comes_ends_in_time() -> None:
    with serving(INTERNET, lambda connection, _: threading.Event().wait(20)) as server:
        started = time.monotonic()
        with pytest.raises(FetchFailed, match="longer than"):
            fetch(f"https://cdn.example:{server.port}/a.png", guard(timeout=0.4))
        assert time.monotonic() - started < 2
