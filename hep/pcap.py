"""SIP and HEP in captures: the public names of `hep.captures.pcap`."""

from hep.captures.pcap import Capture, Captured, Message, RawHep

__all__ = ["Capture", "Captured", "Message", "RawHep"]
