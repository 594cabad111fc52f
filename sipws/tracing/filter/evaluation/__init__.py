"""Evaluation of syntax trees: compiler, values, variables, functions, transformations.

This package imports `sipws.tracing.filter.syntax` and `sipws.tracing.filter.bounds`.
"""
