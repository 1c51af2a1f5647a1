"""Endpoints as steps; IPAM."""
