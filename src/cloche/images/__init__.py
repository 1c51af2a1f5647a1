"""References, configs, layers, archives."""
