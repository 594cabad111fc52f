"""HEP from senders: collector and receiver.

It may import `hep.codec`, `hep.errors` and `hep.hep_id`.
"""
