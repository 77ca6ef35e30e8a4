"""What runs as a process of its own: trainers, ranks, and servers and clients that misbehave."""
