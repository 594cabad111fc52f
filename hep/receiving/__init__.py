"""HEP from senders: collector and receiver.

This package imports `hep.codec`, `hep.errors` and `hep.hep_id` only.
"""
