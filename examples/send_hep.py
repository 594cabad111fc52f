"""Send one SIP message to a HEP collector on this machine, such as `hep listen`."""

import asyncio
import time

import hep


async def main() -> None:
    """Send, and say what became of it."""
    destination = hep.HepId.parse("127.0.0.1:9060;transport=tcp")
    packet = hep.Packet(
        src_ip="192.0.2.5",
        src_port=50123,
        dst_ip="192.0.2.1",
        dst_port=8080,
        seconds=int(time.time()),
        microseconds=0,
        payload=b"OPTIONS sip:example.com SIP/2.0\r\nCall-ID: call-1\r\n\r\n",
        correlation_id=b"call-1",
    )
    async with hep.open_sender(destination) as sender:
        sender.send(hep.encode(packet))
    print(f"{sender.counters.sent} sent, {sender.counters.dropped.total()} dropped")


if __name__ == "__main__":
    asyncio.run(main())
