"""From a tree to a decision: compiler, values, variables, transformations.

It may import `sipws.tracing.filter.syntax`.
"""
