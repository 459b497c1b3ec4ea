"""Rules: reads them, compiles them, and decides every call. `ruleset.load` is the way in; `conditions` holds the law."""
