"""The process beside each container: stdio, log, exit record."""
