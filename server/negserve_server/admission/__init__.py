"""Open calls: who may make one, how many there are, whose turn it is, and how one is refused.

What a call asks is not known here.
"""
