import { useClinicalMutation } from "bonfire/react";
import { useState } from "react";
import { api } from "../api.ts";
import { useAction } from "../lib/useAction.ts";
import { Dialog } from "../ui/Dialog.tsx";

const genders = ["female", "male", "other", "unknown"] as const;

interface NewPatientProps {
  onAdded: (patientId: string) => void;
  onClose: () => void;
}

/** The least that a chart needs: a name, a date of birth, a sex. */
export function NewPatient({ onAdded, onClose }: NewPatientProps) {
  const { mutate } = useClinicalMutation(api.patients.create);
  const { busy, problem, run } = useAction();
  const [family, setFamily] = useState("");
  const [given, setGiven] = useState("");
  const [birthDate, setBirthDate] = useState("");
  const [gender, setGender] = useState<(typeof genders)[number]>("unknown");

  const submit = (): void =>
    run(
      "Patient added",
      () => mutate({ given: given.trim(), family: family.trim(), birthDate, gender }),
      ({ value }) => onAdded(value.id),
    );

  return (
    <Dialog title="New patient" action="Add patient" busy={busy} problem={problem} onSubmit={submit} onClose={onClose}>
      <div className="two-fields">
        <label className="field">
          <span>Given name</span>
          <input
            className="input"
            required
            autoComplete="off"
            value={given}
            onChange={(event) => setGiven(event.target.value)}
          />
        </label>
        <label className="field">
          <span>Family name</span>
          <input
            className="input"
            required
            autoComplete="off"
            value={family}
            onChange={(event) => setFamily(event.target.value)}
          />
        </label>
        <label className="field">
          <span>Date of birth</span>
          <input
            className="input"
            type="date"
            required
            max={new Date().toISOString().slice(0, 10)}
            value={birthDate}
            onChange={(event) => setBirthDate(event.target.value)}
          />
        </label>
        <label className="field">
          <span>Sex</span>
          <select
            className="input"
            value={gender}
            onChange={(event) => setGender(genders.find((known) => known === event.target.value) ?? "unknown")}
          >
            {genders.map((known) => (
              <option key={known} value={known}>
                {known.slice(0, 1).toUpperCase() + known.slice(1)}
              </option>
            ))}
          </select>
        </label>
      </div>
    </Dialog>
  );
}
