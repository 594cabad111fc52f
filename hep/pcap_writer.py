"""Packets as a capture file: the public names of `hep.captures.pcap_writer`."""

from hep.captures.pcap_writer import PcapWriter, record

__all__ = ["PcapWriter", "record"]
