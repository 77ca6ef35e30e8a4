"""Messages for people: mistyped names, missing libraries, exit on Ctrl-C.

Both halves use it, and it is not part of the Python API. Standard library only, plus click in
``command``; imports nothing else of ours but errors.
"""
