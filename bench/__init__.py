"""Paired measurements against the peers that the distribution has. They never assert on time."""
