"""The viewer, ``hep view``: a collector, a store and a page that shows calls and connections.

It reads HEP of any sender, and captures. It knows nothing of sipws; what the events of sipws say is
read from their JSON. Its packages, from the bottom up: ``model`` (pure), ``export`` (pure),
``store`` (SQLite), ``web`` (HTTP). ``page`` holds the files that a browser loads.
"""
