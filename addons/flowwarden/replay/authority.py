"""The certificates with which a replay answers for AWS's names: the gateway's CA, or one that is made for the purpose."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
import threading
from pathlib import Path

from cryptography import x509
from mitmproxy.certs import CertStore

from ..errors import ConfigError

BASENAME = "mitmproxy"  # the gateway's own CA lies under this name, so that an agent which trusts it trusts a replay
_BITS = 2048
_MOST = 500  # names whose contexts are kept


class Authority:
    """A CA and a TLS context for each name that is asked for. Thread-safe. `certificate` is the CA's PEM file."""

    def __init__(self, folder: Path | None = None) -> None:
        """The CA of this folder, made if there is none; without a folder one that is forgotten. ConfigError."""
        self._own = tempfile.TemporaryDirectory(prefix="flowwarden-replay-")
        folder = folder or Path(self._own.name)
        try:
            self._store = CertStore.from_store(folder, BASENAME, _BITS)
        except (OSError, ValueError) as error:
            raise ConfigError(f"the CA in {folder} cannot be used: {error}", "Give another folder with --ca") from None
        self.certificate = folder / f"{BASENAME}-ca-cert.pem"
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def context(self, host: str) -> ssl.SSLContext:
        """What a TLS server for this host name, or IP address, is made with. HTTP/1.1 only."""
        with self._lock:
            if host not in self._contexts:
                if len(self._contexts) >= _MOST:
                    self._contexts.clear()
                self._contexts[host] = self._made(host)
            return self._contexts[host]

    def _made(self, host: str) -> ssl.SSLContext:
        entry = self._store.get_cert(host if len(host) <= 64 else None, [_name(host)])
        file = Path(self._own.name) / "one.pem"
        file.touch(mode=0o600)
        file.write_bytes(_pem(entry.privatekey) + entry.cert.to_pem())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.set_alpn_protocols(["http/1.1"])
        file.unlink()
        return context

    def close(self) -> None:
        """Forgets the CA that was made for this replay."""
        self._own.cleanup()


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: object) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))  # type: ignore[attr-defined]
