"""Cloche: a container engine whose containers are plans that can be read, timed, diffed and replayed."""

__version__ = "0.1.0"
