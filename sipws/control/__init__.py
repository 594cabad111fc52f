"""The control interface: JSON-RPC, its HTTP server and its client.

It may import `sipws.transport` for listening, and `sipws.metrics`. The methods are in
`sipws.service`.
"""
