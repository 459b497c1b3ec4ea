"""A local OIDC issuer that mints any token, right or wrong, without the library that the package checks them with."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, length: int = 0) -> str:
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


class Key:
    """A signing key with its id. RS256 or ES256 (RFC 7518, sections 3.3 and 3.4)."""

    def __init__(self, kind: str = "RS256") -> None:
        self.kind = kind
        self.id = uuid.uuid4().hex[:8]
        self._rsa = rsa.generate_private_key(65537, 2048) if kind == "RS256" else None
        self._ec = ec.generate_private_key(ec.SECP256R1()) if kind == "ES256" else None

    def sign(self, data: bytes) -> bytes:
        if self._rsa:
            return self._rsa.sign(data, padding.PKCS1v15(), hashes.SHA256())
        assert self._ec is not None
        r, s = decode_dss_signature(self._ec.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def jwk(self) -> dict[str, str]:
        base = {"kid": self.id, "alg": self.kind, "use": "sig"}
        if self._rsa:
            public = self._rsa.public_key().public_numbers()
            return base | {"kty": "RSA", "n": number(public.n), "e": number(public.e)}
        assert self._ec is not None
        point = self._ec.public_key().public_numbers()
        return base | {"kty": "EC", "crv": "P-256", "x": number(point.x, 32), "y": number(point.y, 32)}

    def public_pem(self) -> bytes:
        public = (self._rsa or self._ec).public_key()  # type: ignore[union-attr]
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return public.public_bytes(serialization.Encoding.PEM, form)


class OidcIssuer:
    """Serves discovery and keys on loopback. `fetches` counts requests for keys; `down` answers them with 503."""

    def __init__(self, audience: str = "flowwarden") -> None:
        self.audience = audience
        self.keys = [Key("RS256"), Key("ES256")]
        self.stranger = Key("RS256")
        self.fetches = 0
        self.down = False
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, document = issuer._document(self.path)
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True, name="issuer").start()

    def _document(self, path: str) -> tuple[int, dict[str, Any]]:
        if path == "/.well-known/openid-configuration":
            return 200, {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        if path != "/keys":
            return 404, {}
        self.fetches += 1
        return (503, {}) if self.down else (200, {"keys": [key.jwk() for key in self.keys]})

    def claims(
        self, subject: str = "alice", groups: tuple[str, ...] = ("developers",), **claims: Any
    ) -> dict[str, Any]:
        """The claims of a good token; a claim given as None is left out."""
        now = int(time.time())
        found = {
            "iss": self.url,
            "aud": self.audience,
            "sub": subject,
            "azp": "agent-one",
            "owner": f"{subject}-owner",
            "groups": list(groups),
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "jti": uuid.uuid4().hex,
        } | claims
        return {name: value for name, value in found.items() if value is not None}

    def token(self, subject: str = "alice", groups: tuple[str, ...] = ("developers",), **claims: Any) -> str:
        """A good token, unless a claim makes it a bad one (`exp=0`, `aud="x"`, `iss=…`, `sub=None`)."""
        return self.encode(self.claims(subject, groups, **claims), self.keys[0])

    def encode(self, claims: dict[str, Any], key: Key, **header: Any) -> str:
        """Any claims under any key and header fields."""
        fields = {"alg": key.kind, "typ": "JWT", "kid": key.id} | header
        signed = f"{b64(json.dumps(fields).encode())}.{b64(json.dumps(claims).encode())}"
        return f"{signed}.{b64(key.sign(signed.encode()))}"

    def expired(self, subject: str = "alice") -> str:
        now = int(time.time())
        return self.token(subject, iat=now - 7200, nbf=now - 7200, exp=now - 3600)

    def wrongly_signed(self, subject: str = "alice") -> str:
        """Signed by a stranger under a known key id."""
        return self.encode(self.claims(subject), self.stranger, kid=self.keys[0].id)

    def unsigned(self, subject: str = "alice") -> str:
        """alg=none (RFC 8725, section 2.1)."""
        head = b64(b'{"alg":"none","typ":"JWT"}')
        return f"{head}.{b64(json.dumps(self.claims(subject)).encode())}."

    def confused(self, subject: str = "alice") -> str:
        """HS256 with the public key as its secret (RFC 8725, section 2.1)."""
        head = b64(json.dumps({"alg": "HS256", "typ": "JWT", "kid": self.keys[0].id}).encode())
        signed = f"{head}.{b64(json.dumps(self.claims(subject)).encode())}"
        return f"{signed}.{b64(hmac.new(self.keys[0].public_pem(), signed.encode(), hashlib.sha256).digest())}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> OidcIssuer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
