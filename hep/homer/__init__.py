"""What a Homer 7 (heplify-server and PostgreSQL) does with a packet. Pure.

`hep.homer.fate` predicts whether a packet is stored, and in which table.
"""
