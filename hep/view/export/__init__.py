"""A call as text, JSON, Mermaid, HTML or capture, with credentials masked. Pure."""
