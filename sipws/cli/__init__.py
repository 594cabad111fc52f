"""The commands of ``sipws``: run, demo, ctl, config, filter.

It may import everything; nothing imports it.
"""
