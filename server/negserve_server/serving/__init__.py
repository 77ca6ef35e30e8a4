"""A server put together: graphs loaded, RPCs wired, processes forked. Only the cli uses it."""
