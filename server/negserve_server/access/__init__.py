"""Who calls: the identity of a caller, what it may do, and how much.

Calls, streams and messages are not known here.
"""
