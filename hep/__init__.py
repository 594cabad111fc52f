"""HEP: the Homer Encapsulation Protocol, on its own."""
