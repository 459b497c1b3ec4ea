"""What the tests share: independent servers, clients and issuers. Nothing in here imports the package under test."""
