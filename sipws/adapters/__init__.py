"""Tracing for the connections of other servers, without our transport.

Each module is for one framework and imports it: `sipws.adapters.websockets`,
`sipws.adapters.aiohttp`, and `sipws.adapters.asgi`, which needs none. They share
`sipws.adapters.reporter.Reporter`. `docs/adapters.md` shows how to use them, and lists what each
records and what it rebuilds.
"""
