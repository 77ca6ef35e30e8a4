"""The client that blocks its thread: calls, forks, signals, and what users hold. No event loop."""
