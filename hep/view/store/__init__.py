"""Packets, calls and connections in SQLite, in segments by time. Imports the model."""
