"""The demo: the whole path against a local AWS and a local OIDC issuer. What it checks is what it prints."""

from .show import main

__all__ = ["main"]
