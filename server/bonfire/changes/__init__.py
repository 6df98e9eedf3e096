"""Postgres -> commits, in commit order."""
