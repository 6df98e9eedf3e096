"""The wire contract between bonfire and its clients: frames, faults and the one codec.

It depends on msgspec alone, so that a client, a test or a tool can speak the protocol without the server.
"""
