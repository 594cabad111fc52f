"""One running server: application, MI commands, statistics, responder, systemd, demo.

It may import every package but `sipws.workers` and `sipws.cli`.
"""
