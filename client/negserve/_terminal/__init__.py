"""What people are told: text made printable, mistyped names, missing libraries, a program's end.

Both halves use it. The standard library alone, and click in ``command``; nothing else of ours.
"""
