"""The tracing plugin: subscribes to the bus, decides what is traced, and sends HEP.

`sipws.tracing.trace.Trace` is one running trace. `sipws.tracing.pipeline.Pipeline` wraps it for the
connections of other servers. The package may import the bus, `sipws.masking` and `hep`, never the
transport.
"""
