"""Storage drivers; each returns mounts as steps and never mounts."""
