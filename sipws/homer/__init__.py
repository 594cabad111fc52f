"""What Homer 7 needs to search and to show the packets of sipws, and how it gets there.

`files` has the mapping, the dashboard and the lookups; `lookups` adds them to what homer-app has,
and takes them out; `plan` compares; `api` talks to homer-app.
"""
