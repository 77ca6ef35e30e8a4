"""``negserve bench``: how fast a server is from here, and whether network or server bounds that."""
