"""Containers, images, events: the verbs, their rules and their transactions."""
