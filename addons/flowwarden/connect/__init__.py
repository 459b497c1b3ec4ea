"""Station 1: may this tunnel exist at all? CONNECT = SNI = Host, ports and addresses by list."""
