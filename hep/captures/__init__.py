"""SIP and HEP in captures: pcap reader and writer, TCP reassembly, scapy layers.

This package imports `hep.codec`, `hep.sip`, `hep.errors` and `hep.hep_id` only. scapy is imported
when it is first used.
"""
