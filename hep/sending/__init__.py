"""HEP to collectors: queue, senders, links, groups, spool.

It may import `hep.codec`, `hep.errors` and `hep.hep_id`.
"""
