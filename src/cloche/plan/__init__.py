"""Typed steps, their executor, the trace and the renderers."""
