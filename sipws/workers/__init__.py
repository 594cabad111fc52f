"""Several server processes under a supervisor, with one control interface.

It may import every package but `sipws.cli`.
"""
