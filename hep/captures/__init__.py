"""SIP and HEP in captures: pcap in and out, TCP streams put together, scapy layers.

It may import `hep.codec` and `hep.errors`; scapy is loaded when it is used.
"""
