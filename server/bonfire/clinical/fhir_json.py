"""FHIR resources as Python dicts: numbers keep the spelling that they came with, and are never floats."""

from decimal import Decimal

import msgspec
from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.values import Json

# 235.40 is not 235.4 in a chart: how many places were measured is part of the value.
_decoder = msgspec.json.Decoder(Json, float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


def parse(text: str | bytes) -> Json:
    """The resource in a JSON text; its decimals are `Decimal`."""
    return _decoder.decode(text)


def spell(resource: Json) -> str:
    """The JSON text of a resource."""
    return _encoder.encode(resource).decode()


def validate(resource: Json) -> None:
    """Fault bad_arguments, naming element and problem, when `resource` breaks FHIR's structure.

    Checked against the R4B models, the nearest to R4 that there are; types that R4B does not have pass. Only a check:
    the models' own output differs in spelling, so it is never what is stored.
    """
    resource_type = str(resource.get("resourceType"))
    try:
        model = get_fhir_model_class(resource_type)
    except ValueError:
        return
    try:
        model.model_validate(resource)
    except ValidationError as error:
        # The input and the text of a problem can hold a patient's data; place and kind can't.
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        raise Fault(
            FaultCode.bad_arguments,
            f"the {resource_type} breaks FHIR's structure: {first['type']}",
            field=_path(resource_type, first["loc"]),
            expected="a valid FHIR R4 resource",
        ) from None


def _path(resource_type: str, places: tuple[int | str, ...]) -> str:
    return ".".join([str(resource_type), *(str(place) for place in places)])
