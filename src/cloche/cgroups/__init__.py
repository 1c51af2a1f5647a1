"""Cgroup v1 and v2 behind one contract; one file per controller."""
