"""Reads an ``opensips.cfg`` into settings, and reports what became of each line.

`reader.read` is the entry. `sockets`, `modparams`, `parameters`, `hep_ids`, `certificates` and
`sip_traces` each read one kind of lines. Nothing here knows the settings of sipws but by name:
`sipws.config.opensips_table` puts them over a configuration.
"""
