"""TOML and opensips.cfg read into frozen settings, checked before a socket is opened.

It may import what it configures; nothing here starts anything.
"""
