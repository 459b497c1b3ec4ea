"""Flowwarden: a gateway for AI coding agents, as a bundle of mitmproxy addons. Read `chain.py` first."""

__version__ = "0.1.0"
