"""What Cedar's partial evaluation leaves of a policy -> for which records it holds, in facets.

The principal and the action are known by then, the resource is not. What comes in is the JSON of Cedar policies
(https://docs.cedarpolicy.com/policies/json-format.html) in which `{"unknown": [{"Value": "resource"}]}` stands for the
resource. What can't be said in facets is UNKNOWN: a permit then gives less, a forbid takes more.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct

from bonfire.access.formula import (
    ALWAYS,
    NEVER,
    UNKNOWN,
    TooComplex,
    Truth,
    both,
    chosen,
    either,
    has_one_of,
    intersection,
    of_patient,
    same,
    union,
)
from bonfire.store.reach import NOTHING, PATIENT, Reach

Effect = Literal["permit", "forbid"]


class Residual(Struct, frozen=True):
    """What is left of one policy. `mask`: a permit that shows records with some of their fields masked only."""

    id: str
    effect: Effect
    truth: Truth
    mask: str | None = None


def compile_residual(id: str, policy: Mapping[str, Any], mask: str | None = None) -> Residual:
    """`policy` as it is in the residuals of a partial evaluation."""
    effect: Effect = "permit" if policy["effect"] == "permit" else "forbid"
    return Residual(id, effect, _conditions(policy, None), mask)


def can_be_said(policy: Mapping[str, Any]) -> bool:
    """Whether facets can say what this policy asks of a record, whoever the caller is. `policy` as it was written.

    Caller's attributes are taken to be something, and what is asked of the caller alone to be so: it matters only that
    the rest can be compiled.
    """
    if policy["resource"]["op"] not in ("All", "is") or "in" in policy["resource"]:
        return False
    return _conditions(policy, _SOMEBODY).said


def reach_of(residuals: Iterable[Residual], mask: str | None = None) -> Reach:
    """The records that the permits with this mask (None: with none) give, and no forbid takes away."""
    reach = NOTHING
    try:
        for residual in residuals:
            if residual.effect == "permit" and residual.mask == mask:
                reach = union(reach, residual.truth.true)
        for residual in residuals:
            if residual.effect == "forbid":
                reach = intersection(reach, residual.truth.false)
    except TooComplex:
        return NOTHING
    return reach


class _Attribute(Struct, frozen=True):
    """`resource.<name>`, or the resource itself where the name is empty."""

    name: str


class _Entity(Struct, frozen=True):
    type: str
    id: str


# A value: text, number, bool, an entity or a set of such. What is none of these is no value that a facet could hold.
_Known = str | int | bool | _Entity | frozenset[Any]
_Value = _Known | _Attribute | None

_RESOURCE = _Attribute("")
# The prefix of the words of each attribute that is a set.
_SETS = {"labels": "label:", "categories": "category:", "authors": "author:"}
# Those of which an empty set has a word of its own: the prefix alone.
_SAYS_NONE = ("labels", "authors")
_ATTRIBUTES = {"type", "patient", "draft", *_SETS}
# A word that no record has.
_NO_WORD = "never:"

_SOMEBODY: Mapping[str, _Known] = {
    "": _Entity("User", "somebody"),
    "tenant": "tenant",
    "roles": frozenset(["role"]),
    "kind": "person",
    "purpose": "TREAT",
    "patients": frozenset([_Entity("Patient", "somebody")]),
    "brokenGlass": frozenset([_Entity("Patient", "somebody")]),
    "refusedBy": frozenset([_Entity("Patient", "somebody")]),
    "suspended": False,
    "self": _Entity("Patient", "somebody"),
    "behalfOf": _Entity("User", "somebody"),
}
"""A caller who has every attribute of the schema's `User`."""


def _conditions(policy: Mapping[str, Any], caller: Mapping[str, _Known] | None) -> Truth:
    compiler = _Compiler(caller)
    truth = ALWAYS
    try:
        for condition in policy["conditions"]:
            holds = compiler.truth(condition["body"])
            truth = both(truth, holds if condition["kind"] == "when" else holds.inverted())
    except TooComplex:
        return UNKNOWN
    return truth


class _Compiler:
    """`caller`: the attributes of the principal, where Cedar has not put them in; what it left out is an error."""

    def __init__(self, caller: Mapping[str, _Known] | None) -> None:
        self._caller = caller

    def truth(self, node: Any) -> Truth:
        """The truth of a boolean expression; UNKNOWN for what can't be said."""
        if self._caller is not None and not _mentions_resource(node):
            return ALWAYS
        value = self._value(node)
        if isinstance(value, bool):
            return ALWAYS if value else NEVER
        if isinstance(value, _Attribute):
            return has_one_of(["draft:true"]) if value.name == "draft" else UNKNOWN
        if value is not None:
            return UNKNOWN
        match node:
            case {"&&": {"left": left, "right": right}}:
                return both(self.truth(left), self.truth(right))
            case {"||": {"left": left, "right": right}}:
                return either(self.truth(left), self.truth(right))
            case {"!": {"arg": arg}}:
                return self.truth(arg).inverted()
            case {"if-then-else": {"if": condition, "then": then, "else": otherwise}}:
                return chosen(self.truth(condition), self.truth(then), self.truth(otherwise))
            case {"==": {"left": left, "right": right}}:
                return self._equal(left, right)
            case {"!=": {"left": left, "right": right}}:
                return self._equal(left, right).inverted()
            case {"has": {"left": left, "attr": str() as name}} if self._value(left) == _RESOURCE:
                return _has(name)
            case {"is": {"left": left, "entity_type": type, **rest}} if self._value(left) == _RESOURCE and not rest:
                return ALWAYS if type == "Record" else NEVER
            case {"isEmpty": {"arg": arg}}:
                return _is_empty(self._value(arg))
            case {"in": {"left": left, "right": right}}:
                return _in(self._value(left), self._value(right))
            case {"contains": {"left": left, "right": right}}:
                return _contains(self._value(left), self._value(right))
            case {"containsAny": {"left": left, "right": right}}:
                return _contains_any(self._value(left), self._value(right))
            case {"containsAll": {"left": left, "right": right}}:
                return _contains_all(self._value(left), self._value(right))
            case _:
                return UNKNOWN

    def _equal(self, left: Any, right: Any) -> Truth:
        one, other = self._value(left), self._value(right)
        if isinstance(other, _Attribute):
            one, other = other, one
        if isinstance(one, _Attribute) and other is not None and not isinstance(other, _Attribute):
            return _among(one, [other])
        return same(self.truth(left), self.truth(right))

    def _value(self, node: Any) -> _Value:
        """The value of an expression that is known or is an attribute of the resource; else None."""
        match node:
            case {"Value": value}:
                return _known(value)
            case {"unknown": [{"Value": "resource"}]} | {"Var": "resource"}:
                return _RESOURCE
            case {"Var": "principal"} if self._caller is not None:
                return self._caller[""]
            case {".": {"left": {"Var": "principal"}, "attr": str() as name}} if self._caller is not None:
                return self._caller.get(name)
            case {".": {"left": left, "attr": str() as name}}:
                return _Attribute(name) if self._value(left) == _RESOURCE and name in _ATTRIBUTES else None
            case {"Set": [*elements]}:
                values = [self._value(element) for element in elements]
                if any(value is None or isinstance(value, _Attribute) for value in values):
                    return None
                return frozenset(values)
            case _:
                return None


def _mentions_resource(node: Any) -> bool:
    match node:
        case {"Var": "resource"} | {"unknown": _}:
            return True
        case dict():
            return any(_mentions_resource(child) for child in node.values())
        case list():
            return any(_mentions_resource(child) for child in node)
        case _:
            return False


def _known(value: Any) -> _Known | None:
    match value:
        case bool() | int() | str():
            return value
        case {"__entity": {"type": str() as type, "id": str() as id}}:
            return _Entity(type, id)
        case [*elements]:
            values = [_known(element) for element in elements]
            return None if any(value is None for value in values) else frozenset(values)
        case _:
            return None


def _among(attribute: _Attribute, values: Collection[Any]) -> Truth:
    """Whether an attribute that is no set is one of these values."""
    match attribute.name:
        case "type" if all(isinstance(value, str) for value in values):
            return has_one_of(f"type:{value}" for value in values if value)
        case "patient" if all(isinstance(value, _Entity) for value in values):
            return of_patient(value.id for value in values if value.type == "Patient")
        case "draft" if all(isinstance(value, bool) for value in values):
            true = both(has_one_of(["draft:true"]), ALWAYS if True in values else NEVER)
            false = both(has_one_of(["draft:true"]).inverted(), ALWAYS if False in values else NEVER)
            return either(true, false)
        case _:
            return UNKNOWN


def _holds(attribute: _Attribute, values: Iterable[Any], *, all_of: bool = False) -> Truth:
    """Whether a set of the resource holds one of these values, or all of them."""
    prefix = _SETS.get(attribute.name)
    words: list[str] = []
    for value in values:
        match value:
            case _Entity(type="User", id=text) if attribute.name == "authors":
                pass
            case str() as text if attribute.name != "authors":
                pass
            case _:
                return UNKNOWN
        # No set of a record holds an empty text: its word would be the one that says that the set is empty.
        words.append(f"{prefix}{text}" if text else _NO_WORD)
    if prefix is None:
        return UNKNOWN
    if not all_of:
        return has_one_of(words)
    truth = ALWAYS
    for word in words:
        truth = both(truth, has_one_of([word]))
    return truth


def _in(left: _Value, right: _Value) -> Truth:
    """No entity has parents here, so to be in a set is to be one of it, and to be in an entity is to be it."""
    match left, right:
        case _Attribute(), frozenset():
            return _among(left, right)
        case _Attribute(), _Entity():
            return _among(left, [right])
        case _Entity(), _Attribute(name="patient"):
            return _among(right, [left])
        case _Entity(), _Attribute():
            return _holds(right, [left])
        case _:
            return UNKNOWN


def _contains(left: _Value, right: _Value) -> Truth:
    match left, right:
        case frozenset(), _Attribute():
            return _among(right, left)
        case _Attribute(), str() | _Entity():
            return _holds(left, [right])
        case _:
            return UNKNOWN


def _contains_any(left: _Value, right: _Value) -> Truth:
    match left, right:
        case (_Attribute() as attribute, frozenset() as values) | (frozenset() as values, _Attribute() as attribute):
            return _holds(attribute, values)
        case _:
            return UNKNOWN


def _contains_all(left: _Value, right: _Value) -> Truth:
    match left, right:
        case _Attribute(), frozenset():
            return _holds(left, right, all_of=True)
        case _:
            return UNKNOWN


def _is_empty(value: _Value) -> Truth:
    match value:
        case _Attribute(name=name) if name in _SAYS_NONE:
            return has_one_of([_SETS[name]])
        case _:
            return UNKNOWN


def _has(name: str) -> Truth:
    if name == "patient":
        return has_one_of([PATIENT]).inverted()
    return ALWAYS if name in _ATTRIBUTES else NEVER
