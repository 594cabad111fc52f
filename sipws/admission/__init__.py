"""Who may connect: origins, hosts, limits, and the peers behind trusted proxies.

It is pure: it may import `sipws.ws` and the root modules.
"""
