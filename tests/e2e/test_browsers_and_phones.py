"""Real SIP stacks register through the real program, and a collector receives the traces."""
