"""What a server listens on: addresses, TLS and the options of gRPC's connections.

Everything that can be checked is checked before graphs are loaded. No call is known here.
"""
