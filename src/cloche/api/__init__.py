"""The Docker Engine API, a thin door on the engine: a handler parses, calls the engine, renders; nothing
else.

Docker's JSON names are known to this package alone.
"""
