"""mitmdump -s addons/gateway.py: the chain under a stock mitmproxy, for development; it refuses real leases."""

from flowwarden.script import Script

addons = [Script()]
