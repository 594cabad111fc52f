"""The built-in responder: the public names of `sipws.service.responder`."""

from sipws.service.responder import answer, respond

__all__ = ["answer", "respond"]
