"""Recording: every flow as evidence that cannot be altered unseen, and as .mitm frames that any mitmproxy opens.

`recorder` writes, `index` makes it findable, `read` and `verify` need nothing but the folder.
"""
