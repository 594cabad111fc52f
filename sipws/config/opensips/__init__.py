"""Reads an ``opensips.cfg`` into settings, and reports what became of each line.

`reader.read` is the entry. `sockets`, `parameters`, `certificates` and `sip_traces` each read one
kind of lines, and `as_toml` writes the settings down.
"""
