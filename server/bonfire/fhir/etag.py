"""Versions as HTTP spells them: version 7 is the weak entity tag `W/"7"`."""

import re

from bonfire.fhir.outcome import Refusal

_ETAG = re.compile(r'(?:W/)?"(?P<version>[0-9]{1,18})"')


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'W/"{version}"'


def parse_etag(text: str, *, place: str = "") -> int:
    """The version that `text` (an If-Match) names; Refusal where it is no entity tag of ours."""
    match = _ETAG.fullmatch(text.strip())
    if match is None:
        raise Refusal.of('A version is given as W/"<versionId>"', "value", expression=place)
    return int(match["version"])


def etag_matches(header: str, version: int) -> bool:
    """Whether an If-None-Match header names `version`."""
    tags = [tag.strip() for tag in header.split(",")]
    return "*" in tags or any(
        found is not None and int(found["version"]) == version for found in map(_ETAG.fullmatch, tags)
    )
