"""SIP and HEP in captures: pcap reader and writer, reassembly, streams, scapy layers.

The path of a frame: `source` (bytes of a file or a pipe), `capture_file` (frames, by scapy), `links`
(the IP packet behind link header and tunnels), `reassembly` (fragments, TCP), `streams` and
`websocket` (messages of a stream), `finder` (all of it, with counters), `pcap` (the public reader).

This package imports `hep.codec`, `hep.sip`, `hep.errors` and `hep.hep_id` only. scapy is imported
when it is first used.
"""
