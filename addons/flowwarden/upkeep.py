"""What a gateway does by the clock: takes up changed rules, ends what has expired, removes what was kept long enough."""

from __future__ import annotations

import asyncio
import logging

from . import health, yamlfile
from .build import name_hosts
from .errors import FlowwardenError
from .recording import records
from .services import Services

log = logging.getLogger("flowwarden")

RELOAD_SECONDS = 0.5


async def keep_rules(made: Services) -> None:
    """Takes up changed rules; a set that does not check leaves the last good one, and is an alarm."""
    alarm = ""
    while True:
        await asyncio.sleep(RELOAD_SECONDS)
        if await asyncio.to_thread(made.rules.reload_if_changed):
            name_hosts(made.recogniser, made.rules)
            log.info("rules taken up: %s", made.rules.current.digest)
            made.note("rules", records.rules_event(made.rules.current.digest))
            for text in made.rules.current.alarms:
                health.alarm(made, "rules", text)
        if made.rules.alarm != alarm:
            alarm = made.rules.alarm
            if alarm:
                health.alarm(made, "rules", alarm)


async def expire(made: Services) -> None:
    """Ends sessions and questions at their time, whether anybody asks or not; tells the log what health knows."""
    problems: list[str] = []
    while True:
        await asyncio.sleep(1.0)
        problems = health.tell(made, problems)
        try:
            await asyncio.to_thread(made.approvals.expire)
            made.sessions.expire()
            made.repeats.flush()
        except FlowwardenError as error:
            log.error("%s", error)


async def retain(made: Services, keep: str) -> None:
    """Removes what is older than `warden_retention`, at start and every hour; the record of it stays."""
    while keep:
        try:
            count = await made.recorder.expire(yamlfile.seconds(keep))
            if count:
                log.info("retention: %d files removed", count)
        except FlowwardenError as error:
            log.error("retention: %s", error)
        await asyncio.sleep(3600)
