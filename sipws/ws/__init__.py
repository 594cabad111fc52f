"""RFC 6455 and RFC 7118 without I/O: bytes and the time in, events and bytes out.

It may import the root modules, `sipws.masking` and `websockets`; no bus, no sockets.
"""
