"""Snapshots in folders of this machine: those of a server, and copies of them. No gRPC."""
