"""The version of the wire contract, with one line of history for each.

1  hello, subscribe, unsubscribe, query, mutate, ping; transitions end in a frame of their own.
2  resume: hello and welcome name the stream, subscribe may resume, resumed; snapshots say conflated; check and checked.
3  access: a socket's token is renewed (renew, renewed, expiring), and its rights change (access, subscribed again).
"""

PROTOCOL_VERSION = 3

JSON_SUBPROTOCOL = "bonfire.v3.json"
MSGPACK_SUBPROTOCOL = "bonfire.v3.msgpack"
