"""The control interface: JSON-RPC, its HTTP server and its client.

It may import `sipws.transport` for listening; the methods are `sipws.service`'s.
"""
