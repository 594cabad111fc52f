"""The tracing plugin: listens on the bus, decides, and sends HEP."""
