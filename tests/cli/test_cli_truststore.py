"""The truststore that `session start` writes for Java holds every certificate of the bundle, and Java's own marks."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from flowwarden.cli.session import TRUSTSTORE_PASSWORD, _truststore
from support.certs import Authority


def test_every_certificate_is_in_the_truststore(tmp_path) -> None:
    """Read back by cryptography's PKCS #12 reader; Java finds trusted certificates by Oracle's attribute."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = Authority(tmp_path / "a"), Authority(tmp_path / "b")
    pem = one.pem.read_text() + two.pem.read_text()
    store = pkcs12.load_pkcs12(_truststore(pem), TRUSTSTORE_PASSWORD.encode())
    found = "".join(cert.certificate.public_bytes(Encoding.PEM).decode() for cert in store.additional_certs)
    assert sorted(found.split("-----END CERTIFICATE-----")) == sorted(pem.split("-----END CERTIFICATE-----"))
