"""Credentials kept out of what is traced and logged.

It is pure: it may import the root modules and `hep.sip`.
"""
