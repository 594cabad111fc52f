"""SIP and HEP in captures: pcap reader and writer, reassembly, streams, scapy layers.

The path of a frame:

1. `source`: bytes of a file or a pipe
2. `capture_file`: frames, read by scapy
3. `links`: the IP packet behind link header and tunnels
4. `reassembly`: IP fragments and TCP segments
5. `streams`, `websocket`: messages of a stream
6. `finder`: the steps 3 to 5, with counters
7. `pcap`: the public reader

This package imports `hep.codec`, `hep.sip`, `hep.errors` and `hep.hep_id` only. scapy is imported
when it is first used.
"""
