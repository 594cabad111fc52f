"""Receive HEP, add what is missing, and forward it to another collector.

``python examples/forward_hep.py 127.0.0.1:9060 '10.0.0.2:9060;transport=tcp'``
"""

import asyncio
import socket
import sys
from dataclasses import replace

import hep
from hep.sip import call_id

NODE = socket.gethostname().encode()


def enriched(packet: hep.Packet) -> hep.Packet:
    """Add the Call-ID as correlation id, and the name of this host as that of the agent."""
    if packet.correlation_id is None and packet.protocol_type == hep.ProtocolType.SIP:
        packet = replace(packet, correlation_id=call_id(packet.payload))
    if packet.node_name is None:
        packet = replace(packet, node_name=NODE)
    return packet


async def main(listen: str, destination: hep.HepId) -> None:
    """Forward until cancelled, such as by Ctrl-C; then report what was dropped."""
    async with hep.open_sender(destination) as sender:

        def forward(packet: hep.Packet, source: hep.Source) -> None:
            # A packet that cannot be encoded raises; the collector logs and counts it.
            sender.send(enriched(packet))

        async with hep.Collector(forward, udp=listen, tcp=listen) as collector:
            ip, port = collector.tcp_address
            print(f"forwarding from {ip}:{port} to {destination}", flush=True)
            try:
                await asyncio.Event().wait()
            finally:
                print(f"{dict(collector.counters)}, dropped: {dict(sender.counters.dropped)}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("two arguments: 127.0.0.1:9060 '10.0.0.2:9060;transport=tcp', or such")
    try:
        asyncio.run(main(sys.argv[1], hep.HepId.parse(sys.argv[2])))
    except (hep.HepIdError, ValueError, OSError) as exc:
        sys.exit(f"{exc}")
    except KeyboardInterrupt:
        pass
