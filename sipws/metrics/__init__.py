"""Counters, Prometheus text, and the delay of the event loop.

It may import `sipws.ws` and the root modules, the bus among them.
"""
