"""Docker's Engine API on the engine."""
