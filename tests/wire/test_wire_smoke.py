from harness import HOST, SECRET, running


async def test_signed_copy_leaves_and_flow_does_not_carry_it(tmp_path):
    """A request that every station let pass leaves as the signed copy."""
    async with running(tmp_path) as proxy:
        got = await proxy.send(f"GET /a HTTP/1.1\r\nHost: {HOST}\r\nProxy-Authorization: Basic eDp5\r\n\r\n".encode())
        assert got.startswith(b"HTTP/1.1 200 OK") and got.endswith(b"hello")
        assert SECRET in proxy.upstream.bytes
        assert b"proxy-authorization" not in proxy.upstream.bytes.lower()


async def test_h2(tmp_path):
    async with running(tmp_path) as proxy:
        got = await proxy.send2("GET", "/a")
        assert got.status == 200 and got.body == b"hello" and got.ended
        assert SECRET in proxy.upstream.bytes
