"""Make and drop databases for tests."""

from urllib.parse import urlsplit, urlunsplit

import psycopg

from bonfire.store.identifiers import quote_identifier


def in_database(url: str, name: str) -> str:
    """`url` with another database's name."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def as_role(url: str, role: str) -> str:
    """`url` with another role's name."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}"))


def create_database(cluster: str, name: str, template: str = "template0") -> None:
    """A new database, a copy of `template`, which nobody may be connected to."""
    with psycopg.connect(cluster, autocommit=True) as connection:
        copy = f"create database {quote_identifier(name)} template {quote_identifier(template)} strategy file_copy"
        connection.execute(copy.encode())


def drop_database(cluster: str, name: str) -> None:
    """Drop the database, whoever is connected to it."""
    with psycopg.connect(cluster, autocommit=True) as connection:
        connection.execute(f"drop database if exists {quote_identifier(name)} with (force)".encode())
