"""Connections on asyncio: server, client, flow, TLS, listening, dialling.

It may import `sipws.ws`, `sipws.admission`, the bus and the root modules; never tracing, and of
`hep` only `hep.sip`.
"""
