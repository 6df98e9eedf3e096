/** The server's functions, and the shapes that the screens pass around. */

import type { ValueOf } from "bonfire";
import { api } from "bonfire/api";

export { api };

export type Patient = NonNullable<ValueOf<typeof api.patients.get>>;
export type PatientRow = ValueOf<typeof api.patients.list>[number];
export type Note = ValueOf<typeof api.notes.listByPatient>[number];
export type Event = ValueOf<typeof api.timeline.list>[number];
export type Score = ValueOf<typeof api.scores.history>[number];
