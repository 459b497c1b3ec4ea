"""Masking: what an answer holds that the agent must not read is hidden before a byte is released. Start at `masker.py`."""
