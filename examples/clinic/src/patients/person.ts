import { formatAge, formatDate } from "../lib/dates.ts";

/** What every screen says of a person; each part may be missing from a record. */
export interface Person {
  readonly name: string | null;
  readonly family: string | null;
  readonly given: string | null;
  readonly birthDate: string | null;
  readonly gender: string | null;
  readonly deceased: boolean | null;
}

/** `Okafor, Adaeze`: the family name first, as on a chart. */
export function chartName(person: Person): string {
  return person.family !== null && person.given !== null
    ? `${person.family}, ${person.given}`
    : (person.name ?? "(no name)");
}

export function sexOf(person: Person): string {
  return person.gender === null ? "" : person.gender.slice(0, 1).toUpperCase() + person.gender.slice(1);
}

/** The age today; none for the dead, whose age at death the record may not tell. */
export function ageOf(person: Person, now: Date): string {
  if (person.deceased) return "Deceased";
  return person.birthDate === null ? "" : formatAge(person.birthDate, now);
}

export function bornOf(person: Person): string {
  return person.birthDate === null ? "" : formatDate(person.birthDate);
}
