import pytest

from support.harness import HOST, SECRET, running

VERSIONS = pytest.mark.parametrize("version", ["h1", "h2"])


@VERSIONS
async def test_signed_copy_leaves_and_flow_does_not_carry_it(version):
    """A request that every station let pass leaves as the signed copy; the agent's proxy credential does not leave."""
    seen = []
    async with running() as proxy:
        record = proxy.recording
        record.on_flow = lambda flow: seen.append((dict(flow.request.headers), repr(flow.get_state())))
        async with proxy.client(version) as client:
            got = await client.ask("GET", "/a", headers=[("proxy-authorization", "Basic eDp5")])
        assert got.whole and got.status == 200 and got.body == b"hello"
        assert proxy.upstream.requests[0].header("authorization") == SECRET.decode()
        assert proxy.upstream.requests[0].header("host") == HOST
        assert b"proxy-authorization" not in proxy.upstream.bytes.lower()
        headers, state = seen[0]
        assert "authorization" not in headers and "proxy-authorization" not in headers
        assert SECRET.decode() not in state and "eDp5" not in state
