"""What packets mean: SIP messages, calls, connections, ladders and verdicts. Pure."""
