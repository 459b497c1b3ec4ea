"""The operators' listener from the outside: what the command line calls. Failures are one-line errors."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ..errors import ConfigError, FlowwardenError, Refusal, TokenError
from ..identity.rules import is_loopback, safe_url

TIMEOUT = 30.0  # seconds


class Client:
    """`Client("http://127.0.0.1:8082", token).approvals()`. A token leaves only over https or on this machine."""

    def __init__(self, url: str, token: str = "") -> None:
        if not safe_url(url):
            raise ConfigError(f"{url!r} is not an https:// URL", "http:// is for this machine only, e.g. 127.0.0.1.")
        self.url = url.rstrip("/")
        self._token = token
        proxies: dict[str, str] | None = {} if is_loopback(urlsplit(url).hostname or "") else None
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _NoRedirect())

    def health(self) -> dict[str, Any]:
        return self._json("GET", "/health", accept=(503,))

    def metrics(self) -> str:
        return self._send("GET", "/metrics").decode()

    def whoami(self) -> dict[str, Any]:
        return self._json("GET", "/whoami")

    def sessions(self, *, all: bool = False) -> list[dict[str, Any]]:
        return list(self._json("GET", "/sessions" + ("?all=1" if all else ""))["sessions"])

    def session(self, session_id: str) -> dict[str, Any]:
        return self._json("GET", f"/sessions/{quote(session_id, safe='')}")

    def end_session(self, session_id: str, *, principal: bool = False) -> dict[str, Any]:
        """`principal` ends all of its principal's sessions and revokes every token it has been given so far."""
        return self._json("DELETE", f"/sessions/{quote(session_id, safe='')}" + ("?principal=1" if principal else ""))

    def approvals(self, state: str = "") -> list[dict[str, Any]]:
        return list(self._json("GET", "/approvals" + (f"?{urlencode({'state': state})}" if state else ""))["approvals"])

    def approval(self, approval_id: str) -> dict[str, Any]:
        return self._json("GET", f"/approvals/{quote(approval_id, safe='')}")

    def answer(self, approval_id: str, approve: bool, reason: str = "") -> dict[str, Any]:
        path = f"/approvals/{quote(approval_id, safe='')}/answer"
        return self._json("POST", path, {"approve": approve, "reason": reason})

    def revoke(self, approval_id: str, reason: str = "") -> dict[str, Any]:
        return self._json("POST", f"/approvals/{quote(approval_id, safe='')}/revoke", {"reason": reason})

    def watch(self) -> Iterator[dict[str, Any]]:
        """What happens to approvals, as it happens: `{"event", "approval"}`, an event `hello` first."""
        try:
            with self._opener.open(self._request("GET", "/approvals/events"), timeout=TIMEOUT) as answer:
                for line in answer:
                    if line.startswith(b"data:"):
                        yield json.loads(line[5:])
        except urllib.error.HTTPError as error:
            raise _explain(error, error.read(), self.url) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._unreachable(error) from None

    def _json(self, method: str, path: str, body: Any = None, accept: tuple[int, ...] = ()) -> dict[str, Any]:
        answer = self._send(method, path, body, accept)
        try:
            found = json.loads(answer)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise FlowwardenError(f"{self.url} did not answer with JSON", "Is that the operators' listener?")
        return found

    def _request(self, method: str, path: str, body: Any = None) -> urllib.request.Request:
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else json.dumps(body).encode()
        return urllib.request.Request(self.url + path, data=data, headers=headers, method=method)  # noqa: S310 checked

    def _send(self, method: str, path: str, body: Any = None, accept: tuple[int, ...] = ()) -> bytes:
        try:
            with self._opener.open(self._request(method, path, body), timeout=TIMEOUT) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            content = error.read()
            if error.code in accept:
                return content
            raise _explain(error, content, self.url) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> FlowwardenError:
        reason = getattr(error, "reason", None) or error
        return FlowwardenError(f"{self.url} cannot be reached: {reason}", "Is the gateway running there?")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token goes where it was meant to go."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _explain(error: urllib.error.HTTPError, content: bytes, url: str) -> FlowwardenError:
    try:
        told = json.loads(content)["error"]
        code, message = str(told["code"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        return FlowwardenError(f"{url} answered with status {error.code}", "Is that the operators' listener?")
    if error.code == 401:
        return TokenError(message, code)
    return Refusal(message, status=error.code, code=code)
