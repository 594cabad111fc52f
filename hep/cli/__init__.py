"""The command ``hep``: listen, decode, send, replay, doctor.

It may import every package of `hep`; nothing imports it.
"""
