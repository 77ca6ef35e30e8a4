"""What is measured: samplers, servers and clients as cases, and the processes that they run in."""
