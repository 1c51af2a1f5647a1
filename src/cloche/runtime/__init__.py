"""OCI runtime specification to plan."""
