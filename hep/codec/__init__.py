"""HEP packets to bytes and back: chunks, versions, compression, streams. Pure.

This package imports `hep.sip` and `hep.errors` only.
"""
