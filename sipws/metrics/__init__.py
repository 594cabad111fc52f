"""Counters, Prometheus text, and the delay of the event loop.

It may import the root modules and the bus.
"""
