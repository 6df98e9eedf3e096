"""Care teams: who looks after a patient. CareTeam resources, from which the database knows how users are related to
patients: whoever is taken off a team ceases to see, on the screens that are open too, what only the team lets them see.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from bonfire.clinical.arguments import Value
from bonfire.clinical.contexts import MutationContext, QueryContext
from bonfire.clinical.depends import Depends
from bonfire.clinical.fhir_json import parse
from bonfire.clinical.references import USER_SYSTEM, id_in, patient_reference, person_reference
from bonfire.clinical.registry import Registry
from bonfire.clinical.times import instant
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.values import Json

UserId = Annotated[str, Meta(min_length=1, max_length=128)]
Words = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]

care_teams = Registry()


class Member(Value, frozen=True):
    """Who is on a team. `since` is when they came to it, as far as the team says so; `role` in the clinic's words."""

    user_id: str
    name: str | None
    role: str | None
    since: str | None


class CareTeam(Value, frozen=True):
    """A team. `active`: its members are related to the patient through it."""

    id: str
    version: str
    patient_id: str
    name: str | None
    active: bool
    members: list[Member]


class _Found(msgspec.Struct):
    resource: str


@care_teams.mutation("careTeam.join")
async def join(ctx: MutationContext, patient_id: str, role: Words | None = None) -> CareTeam:
    """Puts the caller on the patient's care team, which is made where there is none."""
    return await _put(ctx, patient_id, ctx.principal.user, ctx.principal.name, role)


@care_teams.mutation("careTeam.add")
async def add(
    ctx: MutationContext, patient_id: str, user_id: UserId, name: Words, role: Words | None = None
) -> CareTeam:
    """Puts a user on the patient's care team, which is made where there is none; `name` is how people know them."""
    return await _put(ctx, patient_id, user_id, name, role)


@care_teams.mutation("careTeam.remove")
async def remove(ctx: MutationContext, patient_id: str, user_id: UserId) -> list[CareTeam]:
    """Takes a user off all of the patient's care teams; the teams that they were on, as they are now."""
    changed: list[CareTeam] = []
    for team in await _teams(ctx, patient_id):
        staying = [member for member in team.get("participant", ()) if _user(member) != user_id]
        if len(staying) < len(team.get("participant", ())):
            team["participant"] = staying
            # FHIR has no empty lists.
            if not staying:
                del team["participant"]
            changed.append(team_of(await ctx.update(team)))
    if not changed:
        raise Fault(FaultCode.not_found, "this user is on none of the patient's care teams", field="userId")
    return changed


@care_teams.mutation("careTeam.end")
async def end(ctx: MutationContext, patient_id: str, team_id: str) -> CareTeam:
    """Ends a care team: from now on it relates nobody to the patient."""
    team = await ctx.require("CareTeam", team_id, field="teamId")
    if id_in(team.get("subject"), "Patient") != patient_id:
        raise Fault(FaultCode.wrong_patient, "the care team is another patient's", field="teamId")
    period = {**team.get("period", {}), "end": instant(ctx.now)}
    return team_of(await ctx.update({**team, "status": "inactive", "period": period}))


@care_teams.query("careTeam.list", depends=[Depends("CareTeam", patient="patient_id")])
async def list_(ctx: QueryContext, patient_id: str) -> list[CareTeam]:
    """The patient's care teams that are active."""
    return [team_of(team) for team in await _teams(ctx, patient_id)]


def team_of(team: Json) -> CareTeam:
    """The team in a CareTeam resource; members that are no users of ours are left out."""
    return CareTeam(
        id=team["id"],
        version=team["meta"]["versionId"],
        patient_id=id_in(team.get("subject"), "Patient") or "",
        name=team.get("name"),
        active=team.get("status", "active") == "active",
        members=[
            Member(
                user_id=user,
                name=member.get("member", {}).get("display"),
                role=next((role.get("text") for role in member.get("role", ())), None),
                since=member.get("period", {}).get("start"),
            )
            for member in team.get("participant", ())
            if (user := _user(member)) is not None
        ],
    )


async def _put(ctx: MutationContext, patient_id: str, user_id: str, name: str, role: str | None) -> CareTeam:
    await ctx.require("Patient", patient_id, field="patientId")
    member: Json = {"member": person_reference(user_id, name), "period": {"start": instant(ctx.now)}}
    if role is not None:
        member["role"] = [{"text": role}]
    for team in await _teams(ctx, patient_id):
        others = [each for each in team.get("participant", ()) if _user(each) != user_id]
        return team_of(await ctx.update({**team, "participant": [*others, member]}))
    return team_of(
        await ctx.create(
            {
                "resourceType": "CareTeam",
                "status": "active",
                "subject": patient_reference(patient_id),
                "period": {"start": instant(ctx.now)},
                "participant": [member],
            }
        )
    )


async def _teams(ctx: QueryContext, patient_id: str) -> list[Json]:
    """The patient's active teams, the first made first."""
    found = await ctx.rows(
        _Found,
        """
        select bonfire.fhir(r.resource_type, r.id, r.txid, r.ts, r.resource)::text as resource
        from public.careteam r
        where r.tenant = bonfire.current_tenant()
          and bonfire.patient_of('CareTeam', r.id, r.resource) = :patient::text
          and coalesce(r.resource ->> 'status', 'active') = 'active'
        order by r.cts, r.id
        """,
        patient=patient_id,
    )
    return [parse(each.resource) for each in found]


def _user(member: Json) -> str | None:
    identifier: Json = member.get("member", {}).get("identifier", {})
    if identifier.get("system") == USER_SYSTEM:
        user: str | None = identifier.get("value")
        return user
    return id_in(member.get("member"), "Practitioner")
