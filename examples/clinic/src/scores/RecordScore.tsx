import { useClinicalMutation } from "bonfire/react";
import { useState } from "react";
import { api } from "../api.ts";
import { useAction } from "../lib/useAction.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { bandOf, gad7, type Instrument, phq9 } from "./instruments.ts";

interface RecordScoreProps {
  patientId: string;
  patientName: string;
  onClose: () => void;
}

/** Enter a questionnaire's total; the severity it stands for is said before it is saved. */
export function RecordScore({ patientId, patientName, onClose }: RecordScoreProps) {
  const { mutate } = useClinicalMutation(api.scores.record, { patient: patientId });
  const { busy, problem, run } = useAction();
  const [instrument, setInstrument] = useState<Instrument>(phq9);
  const [text, setText] = useState("");
  const value = /^\d+$/.test(text) ? Number(text) : undefined;
  const fits = value !== undefined && value <= instrument.max;

  const submit = (): void => {
    if (value === undefined) return;
    run(`${instrument.name} recorded`, () => mutate({ patientId, code: instrument.code, value }), onClose);
  };

  return (
    <Dialog
      title="Record score"
      about={patientName}
      action="Record"
      busy={busy || !fits}
      problem={problem}
      onSubmit={submit}
      onClose={onClose}
    >
      <fieldset className="choices">
        <legend className="field-label">Questionnaire</legend>
        {[phq9, gad7].map((each) => (
          <label key={each.code}>
            <input
              type="radio"
              name="instrument"
              checked={each === instrument}
              onChange={() => setInstrument(each)}
            />
            {each.name} <span className="faint">{each.about}</span>
          </label>
        ))}
      </fieldset>
      <label className="field">
        <span>Total score</span>
        <input
          className="input figures"
          inputMode="numeric"
          required
          autoComplete="off"
          value={text}
          onChange={(event) => setText(event.target.value.trim())}
        />
        <span className="field-hint" aria-live="polite">
          {value === undefined || !fits
            ? `A whole number from 0 to ${instrument.max}`
            : `${value} of ${instrument.max}: ${bandOf(instrument, value)?.name.toLowerCase()}`}
        </span>
      </label>
    </Dialog>
  );
}
