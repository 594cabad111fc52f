"""Other servers' connections on our bus: the tracing pipeline without our transport.

Each module is for one framework, and imports it: `sipws.adapters.websockets`,
`sipws.adapters.aiohttp`, and `sipws.adapters.asgi`, which needs none. What they share is the
`sipws.adapters.reporter.Reporter`. `docs/adapters.md` shows how to use them, and says for each what
is recorded and what is rebuilt.
"""
