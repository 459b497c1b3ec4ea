"""The ordered list of stations. An order that is wrong is put right here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import access
from .approval.addon import Approve
from .connect.addon import Connect
from .credentials.addon import Lend, Swap
from .guard import Guard
from .identity.addon import Identify
from .masking.addon import KeepMasks, Mask
from .operators.addon import Internal
from .policy.addon import Decide
from .recognition.addon import Recognise
from .recording.addon import Intend, Record
from .signing.addon import Sign
from .sockets import SESSION_ENDED
from .station import Station
from .wire.websocket import POLICY

if TYPE_CHECKING:
    from .services import Services


def stations(services: Services) -> tuple[Station, ...]:
    """Request stations from the agent to AWS, then answer stations on the way back."""
    return (
        Connect(services),  # 1 may this tunnel exist at all?
        Identify(services),  # 2 who is this?
        Internal(services),  #   flowwarden.internal is answered here
        Recognise(services),  # 3 what is being asked?
        Decide(services),  # 4 allow, deny, or ask a human?
        KeepMasks(services),  #   masked data is not written back over real data
        Approve(services),  # 5 hold until a human has answered
        Lend(services),  #   the lease is at hand
        Intend(services),  # 6 the intent is on disk
        Sign(services),  # 7, 8 asked by the wire: where it goes, and the signed copy
        Swap(services),  # 9 credentials in the answer become phantoms
        Mask(services),  # 10 secrets in the answer are hidden
        Record(services),  # 11 frame and outcome are on disk
    )


def guard(services: Services) -> Guard:
    """The chain as mitmproxy sees it: one addon. A session's WebSockets end with it, and what streams."""
    made = Guard(stations(services), body_limit=services.body_limit, memory=services.memory)
    services.sessions.on_ended(lambda session, _: made.sockets.end(SESSION_ENDED, POLICY, session.id))
    services.sessions.on_ended(lambda session, _: access.end_streams(session.id, SESSION_ENDED))
    return made
