"""Breaking the glass, suspending users, and a tenant's policies: what changes who may see what.

Breaking the glass is for when there is no time to ask: a person reads a patient's whole chart for a while, with a
reason, seen by all who are on that chart and kept in the trail. It ends by itself.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from bonfire.access import activation
from bonfire.access.acts import Told
from bonfire.clinical.arguments import Value
from bonfire.clinical.care_teams import UserId
from bonfire.clinical.contexts import MutationContext, QueryContext
from bonfire.clinical.depends import POLICY, RELATION, Depends
from bonfire.clinical.registry import Registry
from bonfire.clinical.times import instant
from bonfire.store.statements import read_statements
from bonfire_protocol.faults import Fault, FaultCode

PatientId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9\-.]{1,64}$")]
Reason = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"\S")]
Minutes = Annotated[int, Meta(ge=1, le=60)]

grants = Registry()

_STATEMENTS = read_statements("grants", Path(__file__).with_name("sql"))


class Grant(Value, frozen=True):
    """A chart that its user reads with the glass broken, until `until`."""

    patient_id: str
    until: str
    reason: str


class OnChart(Value, frozen=True):
    """Somebody who reads a patient's chart with the glass broken."""

    user_id: str
    since: str
    until: str
    reason: str | None


class Related(Value, frozen=True):
    """How the caller is related to a patient (`*`: to all). `until`: when that ends by itself."""

    kind: str
    patient_id: str
    until: str | None
    reason: str | None


class PolicyVersion(Value, frozen=True):
    """A text of policies that was put in force."""

    version: int
    text: str
    author: str
    reason: str
    at: str


class _Relation(Struct):
    user_id: str
    kind: str
    patient: str
    until: datetime | None
    reason: str | None
    at: datetime


class _Policy(Struct):
    version: int
    text: str
    author: str
    reason: str
    at: datetime


@grants.mutation("access.breakGlass")
async def break_glass(ctx: MutationContext, patient_id: PatientId, reason: Reason, minutes: Minutes = 30) -> Grant:
    """Breaks the glass of a patient's chart for the caller. It does not tell whether there is such a patient."""
    decision = ctx.access.may("breakGlass", patient_id)
    grant = ctx.new_id()
    until = await ctx.conn.fetchval(_STATEMENTS["break_glass"], ctx.principal.user, patient_id, grant, minutes, reason)
    ctx.told.append(
        Told("breakGlass", grant, patient_id, reason, decision.policies, {"until": instant(until), "minutes": minutes})
    )
    return Grant(patient_id, instant(until), reason)


@grants.mutation("access.endBreakGlass")
async def end_break_glass(ctx: MutationContext, patient_id: PatientId) -> bool:
    """Ends what the caller has broken of this patient's chart before its time; false where there was nothing."""
    ended = await ctx.conn.fetch(_STATEMENTS["end_break_glass"], ctx.principal.user, patient_id)
    ctx.told += [Told("breakGlass", row["source"], patient_id, detail={"ended": True}) for row in ended]
    return bool(ended)


@grants.query("access.onChart", depends=[Depends("Patient", patient="patient_id"), Depends(RELATION, "patient_id")])
async def on_chart(ctx: QueryContext, patient_id: str) -> list[OnChart]:
    """Who reads this chart with the glass broken, for all who may see the patient."""
    if await ctx.read("Patient", patient_id) is None:
        return []
    relations = await ctx.rows(
        _Relation,
        """
        select distinct on (r.user_id) r.user_id, r.kind, r.patient, r.until, r.reason, r.at
        from bonfire.relation r
        where r.tenant = bonfire.current_tenant() and r.kind = 'breakGlass' and r.patient = :patient::text
          and r.until > statement_timestamp()
        order by r.user_id, r.until desc
        """,
        patient=patient_id,
    )
    return [
        OnChart(each.user_id, instant(each.at), instant(each.until), each.reason)
        for each in relations
        if each.until is not None
    ]


@grants.query("access.mine", depends=[Depends(RELATION)], personal=True)
async def mine(ctx: QueryContext) -> list[Related]:
    """How the caller is related to patients: by care teams, broken glass, a patient's refusal, a suspension."""
    relations = await ctx.rows(
        _Relation,
        """
        select distinct on (r.kind, r.patient) r.user_id, r.kind, r.patient, r.until, r.reason, r.at
        from bonfire.relation r
        where r.tenant = bonfire.current_tenant() and r.user_id = :caller::text
          and (r.until is null or r.until > statement_timestamp())
        order by r.kind, r.patient, r.until desc nulls first
        """,
        caller=ctx.principal.user,
    )
    return [
        Related(each.kind, each.patient, None if each.until is None else instant(each.until), each.reason)
        for each in relations
    ]


@grants.mutation("access.suspend")
async def suspend(ctx: MutationContext, user_id: UserId, reason: Reason) -> bool:
    """Lets a user do nothing any more, on the screens that they have open too; false where they were suspended."""
    decision = ctx.access.administer()
    if user_id == ctx.principal.user:
        raise Fault(FaultCode.bad_arguments, "you can't suspend yourself", field="userId", expected="another user")
    inserted = await ctx.conn.fetchval(_STATEMENTS["suspend"], user_id, reason, ctx.principal.user)
    ctx.told.append(
        Told("administer", f"suspend/{user_id}", None, reason, decision.policies, {"changed": inserted is not None})
    )
    return inserted is not None


@grants.mutation("access.reinstate")
async def reinstate(ctx: MutationContext, user_id: UserId, reason: Reason) -> bool:
    """Ends a user's suspension; false where they were not suspended."""
    decision = ctx.access.administer()
    ended = await ctx.conn.fetch(_STATEMENTS["reinstate"], user_id)
    ctx.told.append(
        Told("administer", f"reinstate/{user_id}", None, reason, decision.policies, {"changed": bool(ended)})
    )
    return bool(ended)


@grants.query("access.policies", depends=[Depends(POLICY)], administers=True)
async def policies(ctx: QueryContext, limit: Annotated[int, Meta(ge=1, le=100)] = 20) -> list[PolicyVersion]:
    """The tenant's own policies, the newest first, which is in force; none: those that bonfire comes with are.
    For administrators."""
    found = await ctx.rows(
        _Policy,
        """
        select p.version, p.text, p.author, p.reason, p.at
        from bonfire.policy p
        where p.tenant = bonfire.current_tenant()
        order by p.version desc
        limit :limit::int
        """,
        limit=limit,
    )
    return [PolicyVersion(each.version, each.text, each.author, each.reason, instant(each.at)) for each in found]


@grants.mutation("access.activatePolicies")
async def activate_policies(
    ctx: MutationContext, text: Annotated[str, Meta(min_length=1, max_length=500_000)], reason: Reason
) -> int:
    """Puts a text of policies in force for the tenant; its version. It must let the caller administer."""
    decision = ctx.access.administer()
    version = await activation.activate(ctx.conn, ctx.access, text, reason)
    ctx.told.append(Told("policy", f"policy/{version}", None, reason, decision.policies))
    return version
