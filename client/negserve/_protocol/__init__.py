"""Conversations without I/O: what to send next, what an answer means, whether it is believed.

Messages and numpy; nothing that waits, and no connection.
"""
