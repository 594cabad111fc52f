"""Parsing of filter-route scripts to syntax trees.

This package imports no other module of the language, except its limits.
"""
