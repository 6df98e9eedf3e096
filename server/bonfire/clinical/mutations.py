"""A mutation: a typed function that writes, and the record that it is about."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Struct

from bonfire.clinical.arguments import decode, keywords
from bonfire.clinical.contexts import MutationContext
from bonfire.clinical.errors import RegistrationError
from bonfire.clinical.results import Codec
from bonfire.store.model import APP_STATE
from bonfire.store.types import RESOURCE_TYPES


@dataclass(frozen=True)
class Subject:
    """The one record that a mutation is about: its source (a FHIR type or `AppState/<collection>`), and the argument,
    as Python spells it, that holds its id.

    Only a mutation with a subject takes a stated `version`: the subject may then be changed only while it is still of
    that version.
    """

    source: str
    argument: str

    def check(self, mutation: str, arguments: type[Struct]) -> None:
        """RegistrationError when the source or the argument does not exist."""
        if self.source not in RESOURCE_TYPES and not self.source.startswith(f"{APP_STATE}/"):
            raise RegistrationError(
                f"{mutation}: its subject `{self.source}` is no FHIR R4 type and no `{APP_STATE}/<collection>`"
            )
        names = [field.name for field in msgspec.structs.fields(arguments)]
        if self.argument not in names:
            known = ", ".join(names) or "none"
            raise RegistrationError(
                f"{mutation}: its subject names argument `{self.argument}`; the arguments are: {known}"
            )

    def of(self, arguments: Struct) -> tuple[str, str]:
        """(source, id) for one call."""
        return self.source, getattr(arguments, self.argument)


@dataclass(frozen=True)
class Mutation:
    """An async function `(ctx, **arguments)` that writes."""

    name: str
    arguments: type[Struct]
    result: Codec
    function: Callable[..., Awaitable[Any]]
    subject: Subject | None = None
    doc: str = ""
    _decoder: msgspec.json.Decoder[Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_decoder", msgspec.json.Decoder(self.arguments))
        if self.subject is not None:
            self.subject.check(self.name, self.arguments)

    def resolve(self, args: bytes) -> Struct:
        """The arguments in `args` (JSON); Fault bad_arguments names the field."""
        return decode(self._decoder, args)

    async def run(self, ctx: MutationContext, arguments: Struct) -> bytes:
        """Runs the function; the JSON of its result. Fault internal when that is not what it declares."""
        return self.result.encode(await self.function(ctx, **keywords(arguments)))
