"""One module per controller: ``v1`` and ``v2`` translate the limits into file writes below a cgroup's
directory."""
