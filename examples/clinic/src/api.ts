/** The server's functions, and the rows that the screens pass around. */
export {
  api,
  type DraftsByPatientRow as DraftRow,
  type NotesByPatientRow as Note,
  type Patient,
  type PatientRow as FoundPatient,
  type PatientsRow as ListedPatient,
  type ScoresByPatientRow as Score,
  type TimelineRow as TimelineEvent,
} from "bonfire/api";
