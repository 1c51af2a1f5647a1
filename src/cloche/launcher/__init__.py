"""The warm fork server, its protocol and the jobs it forks."""
