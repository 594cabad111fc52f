"""Connections on asyncio: server, client, flow, TLS, listening, dialling.

It may import `sipws.ws`, `sipws.admission` and the root modules; never tracing or `hep`.
"""
