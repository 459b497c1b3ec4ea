"""Every error that a user or an agent can meet.

FlowwardenError            the base: a message and what to do about it; the command line prints both and exits with
│                          its code: 2, or 1 for a token or a call that somebody has looked at and refused
├── ConfigError            an option, mitm.conf or the environment is wrong
├── RuleError              a rule file is wrong; names file and line
├── StoreError             state or recordings cannot be read or written
├── TokenError             an OIDC token or a handle is not good; knows AWS's own code for it
└── Refusal                a call is refused: status, AWS error code, rule, reason
"""

from __future__ import annotations

import traceback


class FlowwardenError(Exception):
    """Base of every error of the project. `message` says what is wrong, `hint` what to do."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class ConfigError(FlowwardenError):
    """An option, mitm.conf or the environment is wrong."""


class RuleError(FlowwardenError):
    """A rule file is wrong. Says where, and what was expected there."""

    def __init__(self, message: str, file: str = "", line: int = 0, hint: str = "") -> None:
        where = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(where + message, hint)
        self.file = file
        self.line = line


class StoreError(FlowwardenError):
    """State or recordings cannot be read or written."""


class TokenError(FlowwardenError):
    """An OIDC token or a session handle is not good. `code` is AWS's error code that an SDK prints."""

    def __init__(self, message: str, code: str = "InvalidToken", hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = code
        self.exit_code = 2 if code == "IDPCommunicationError" else 1  # an issuer out of reach has refused nothing


class Refusal(FlowwardenError):
    """A call is refused.

    `status` is the HTTP status, `code` AWS's error code in the answer, `station` who refused, `rule` the id of the rule
    that decided (empty where no rule did).
    """

    def __init__(
        self, message: str, *, status: int = 403, code: str = "AccessDenied", station: str = "", rule: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.exit_code = 1 if status < 500 else 2
        self.station = station
        self.rule = rule


def traced(crash: BaseException) -> str:
    """Where an unforeseen error came from, for the log: its type and its frames, and those of what caused it.

    Without their messages: they may quote a part of a body that was never masked, or a credential.
    """
    lines: list[str] = []
    found: BaseException | None = crash
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        frames = "".join(traceback.format_tb(found.__traceback__))
        lines.append(f"Traceback (most recent call last):\n{frames}{type(found).__qualname__}")
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    return "\n\ncaused by:\n\n".join(lines)
