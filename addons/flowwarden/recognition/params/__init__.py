"""Reads a request back into the operation's parameters, in the structure that boto3 takes: one module a protocol."""
