"""The SQLite schema and its transactions."""
