"""Computing in this process, on a snapshot of a server's dataset, with the server's engine."""
