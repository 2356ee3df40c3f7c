"""Behaviour suites for adapters: inherit one, give it your adapter, and run it with pytest."""
