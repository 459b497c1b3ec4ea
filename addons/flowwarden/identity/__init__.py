"""Who is this? OIDC tokens, the issuers that are trusted, and the keys they sign with."""
