"""The cloche command, a client of the API."""
