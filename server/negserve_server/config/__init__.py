"""The options of a server: each stated once, with its default, its bounds and its meaning.

The command line, the environment, ``--help`` and the table in ``docs/operations.md`` are made from
these fields. Nothing here knows gRPC or a running server.
"""
