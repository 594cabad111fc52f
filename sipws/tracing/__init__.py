"""The tracing plugin: listens on the bus, decides, and sends HEP.

`sipws.tracing.pipeline.Pipeline` is all of it as one object, for whoever has a server already.
"""
