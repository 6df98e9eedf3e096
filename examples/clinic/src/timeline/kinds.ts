import type { TimelineEvent } from "../api.ts";
import type { IconName } from "../ui/Icon.tsx";

/** The sorts of events that the timeline tells apart, in the order in which the filter offers them. */
export interface Kind {
  readonly name: string;
  readonly singular: string;
  readonly plural: string;
  readonly icon: IconName;
}

const other: Kind = { name: "other", singular: "Entry", plural: "Other entries", icon: "clock" };

export const kinds: readonly Kind[] = [
  { name: "encounter", singular: "Visit", plural: "Visits", icon: "visit" },
  { name: "note", singular: "Note", plural: "Notes", icon: "note" },
  { name: "score", singular: "Score", plural: "Scores", icon: "score" },
  { name: "condition", singular: "Condition", plural: "Conditions", icon: "condition" },
  { name: "allergy", singular: "Allergy", plural: "Allergies", icon: "allergy" },
  { name: "medication", singular: "Medication", plural: "Medications", icon: "medication" },
  { name: "procedure", singular: "Procedure", plural: "Procedures", icon: "procedure" },
  { name: "immunization", singular: "Immunization", plural: "Immunizations", icon: "immunization" },
  { name: "observation", singular: "Observation", plural: "Observations", icon: "lab" },
  { name: "report", singular: "Report", plural: "Reports", icon: "report" },
  { name: "file", singular: "File", plural: "Files", icon: "file" },
  other,
];

export function kindOf(event: TimelineEvent): Kind {
  return kinds.find((kind) => kind.name === event.kind) ?? other;
}
