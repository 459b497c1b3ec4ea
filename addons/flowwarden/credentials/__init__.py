"""Credentials: real ones leased per session and kept here, phantoms for everybody else."""
