"""From a filter-route script to its tree.

It may import nothing of the other two packages of the language.
"""
