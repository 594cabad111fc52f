"""One client connection carried to one connection to the upstream, and back.

It may import `sipws.transport` and what that imports.
"""

from sipws.relay.relay import Relay

__all__ = ["Relay"]
