"""A day of a phone with baresip, which sends binary frames: registers twice and unregisters.

Usage: python phone_baresip.py ws HOST:PORT [die]
With "die" the program is gone after the second time, as if its power had failed.
Prints one JSON object a line: {"event": NAME}.
"""

import asyncio
import json
import os
import signal
import sys

from baresip import Config
from baresip.runtime import Runtime
from baresip.ua import UserAgent


def tell(event: str) -> None:
    """One line for the test."""
    print(json.dumps({"event": event}), flush=True)


async def main() -> None:
    """Register twice, unregister, end."""
    transport, address, *end = sys.argv[1:]
    runtime = Runtime()
    await runtime.start(
        Config(net_interface="127.0.0.1", extra_config_text=f"sip_transports {transport}\n")
    )
    account = f"<sip:alice@{address};transport={transport}>;auth_pass=x;regint=600"
    phone = await UserAgent.create(runtime, account)
    await phone.register(timeout=20)
    tell("register")
    await phone.register(timeout=20)
    tell("register again")
    if end:
        os.kill(os.getpid(), signal.SIGKILL)
    await phone.unregister(timeout=20)
    tell("unregister")
    await runtime.close()


asyncio.run(main())
