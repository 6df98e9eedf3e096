"""The version of the wire contract, with one line of history for each.

1  hello, subscribe, unsubscribe, query, mutate, ping; transitions end in a frame of their own.
"""

PROTOCOL_VERSION = 1

JSON_SUBPROTOCOL = "bonfire.v1.json"
MSGPACK_SUBPROTOCOL = "bonfire.v1.msgpack"
