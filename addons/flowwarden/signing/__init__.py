"""Signatures: checks what the agent signed with its phantom, and signs again with the lease."""
