"""What follows on each other to one peer leaves at once, in order, and nothing is kept back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.connection import Client, Server
from mitmproxy.proxy import commands

from flowwarden.wire.layers import RECORD, together

CLIENT = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))
SERVER = Server(address=("127.0.0.1", 3))


def sent(*given: commands.Command) -> list[commands.Command]:
    def run() -> Iterator[commands.Command]:
        yield from given

    return list(together(run()))


def data(found: Iterable[commands.Command]) -> list[tuple[object, bytes]]:
    return [(c.connection, c.data) for c in found if isinstance(c, commands.SendData)]


def test_a_head_and_its_body_leave_as_one() -> None:
    found = sent(commands.SendData(CLIENT, b"head"), commands.SendData(CLIENT, b"body"))
    assert data(found) == [(CLIENT, b"headbody")]


def test_two_peers_are_never_mixed() -> None:
    found = sent(commands.SendData(CLIENT, b"a"), commands.SendData(SERVER, b"b"), commands.SendData(CLIENT, b"c"))
    assert data(found) == [(CLIENT, b"a"), (SERVER, b"b"), (CLIENT, b"c")]


def test_a_close_comes_behind_what_was_sent_before_it() -> None:
    close = commands.CloseConnection(CLIENT)
    found = sent(commands.SendData(CLIENT, b"last"), close)
    assert data(found[:1]) == [(CLIENT, b"last")] and found[1:] == [close]


def test_more_than_a_record_is_not_copied_together() -> None:
    found = sent(commands.SendData(CLIENT, b"h"), commands.SendData(CLIENT, b"x" * RECORD))
    assert [len(each) for _, each in data(found)] == [1, RECORD]


def test_what_was_sent_before_a_crash_leaves() -> None:
    def run() -> Iterator[commands.Command]:
        yield commands.SendData(CLIENT, b"refusal")
        raise RuntimeError

    found: list[commands.Command] = []
    try:
        for command in together(run()):
            found.append(command)
    except RuntimeError:
        pass
    else:
        raise AssertionError("the crash was swallowed")
    assert data(found) == [(CLIENT, b"refusal")]


@given(st.lists(st.tuples(st.sampled_from("csk"), st.binary(max_size=3 * RECORD // 4)), max_size=12))
def test_every_byte_once_and_in_order(steps: list[tuple[str, bytes]]) -> None:
    given_ = [
        commands.Log(repr(len(blob))) if kind == "k" else commands.SendData(CLIENT if kind == "c" else SERVER, blob)
        for kind, blob in steps
    ]
    for peer, kind in ((CLIENT, "c"), (SERVER, "s")):
        wanted = b"".join(blob for each, blob in steps if each == kind)
        assert b"".join(blob for to, blob in data(sent(*given_)) if to is peer) == wanted
    assert [c for c in sent(*given_) if isinstance(c, commands.Log)] == [
        c for c in given_ if isinstance(c, commands.Log)
    ]
