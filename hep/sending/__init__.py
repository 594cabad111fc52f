"""HEP to collectors: queue, senders, links, groups, spool.

This package imports `hep.codec`, `hep.errors` and `hep.hep_id` only.
"""
