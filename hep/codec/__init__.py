"""HEP packets to bytes and back: chunks, versions, compression, streams. Pure.

It may import `hep.errors` alone.
"""
