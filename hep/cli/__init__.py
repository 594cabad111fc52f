"""The command ``hep``: listen, decode, send, replay, doctor.

This package may import every package of `hep`. No package of `hep` imports it.
"""
