"""One principal's stay at the gateway: handles, phantom credentials, renewal, revocation."""
