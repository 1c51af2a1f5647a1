"""The OCI runtime command."""
