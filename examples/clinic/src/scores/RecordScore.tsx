import { useClinicalMutation } from "bonfire/react";
import { useState } from "react";
import { api } from "../api.ts";
import { useAction } from "../lib/useAction.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { Answers } from "./Answers.tsx";
import { bandOf, gad7, type Instrument, phq9 } from "./instruments.ts";

interface RecordScoreProps {
  patientId: string;
  patientName: string;
  onClose: () => void;
}

type Answered = readonly (number | undefined)[];

/** Enter a questionnaire, by its total or answer by answer; the severity it stands for is said before it is saved. */
export function RecordScore({ patientId, patientName, onClose }: RecordScoreProps) {
  const { mutate } = useClinicalMutation(api.scores.record, { patient: patientId });
  const { busy, problem, run } = useAction();
  const [instrument, setInstrument] = useState<Instrument>(phq9);
  const [byAnswers, setByAnswers] = useState(false);
  const [text, setText] = useState("");
  const [answered, setAnswered] = useState<Answered>([]);

  const answers = complete(answered, instrument);
  const value = byAnswers ? answers?.reduce((sum, answer) => sum + answer, 0) : wholeNumber(text);
  const fits = value !== undefined && value <= instrument.max;
  const meaning = fits
    ? `${value} of ${instrument.max}: ${bandOf(instrument, value)?.name.toLowerCase()}`
    : byAnswers
      ? `${answered.filter((answer) => answer !== undefined).length} of ${instrument.items.length} answered`
      : `A whole number from 0 to ${instrument.max}`;

  const submit = (): void => {
    if (!fits) return;
    const said = byAnswers && answers ? { answers } : { value };
    run(`${instrument.name} recorded`, () => mutate({ patientId, code: instrument.code, ...said }), onClose);
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
      <div className="choices-row">
        <Choices
          legend="Questionnaire"
          of={[phq9, gad7]}
          words={(each) => each.name}
          chosen={instrument}
          onChoose={(each) => {
            setInstrument(each);
            setAnswered([]);
          }}
        />
        <Choices
          legend="Enter"
          of={[false, true]}
          words={(each) => (each ? "Answers" : "Total")}
          chosen={byAnswers}
          onChoose={setByAnswers}
        />
      </div>
      {byAnswers ? (
        <>
          <Answers
            instrument={instrument}
            answered={answered}
            onAnswer={(item, answer) =>
              setAnswered(instrument.items.map((_, index) => (index === item ? answer : answered[index])))
            }
          />
          <p className="score-meaning" aria-live="polite">
            {meaning}
          </p>
        </>
      ) : (
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
            {meaning}
          </span>
        </label>
      )}
    </Dialog>
  );
}

interface ChoicesProps<Choice> {
  legend: string;
  of: readonly Choice[];
  words: (choice: Choice) => string;
  chosen: Choice;
  onChoose: (choice: Choice) => void;
}

function Choices<Choice>({ legend, of, words, chosen, onChoose }: ChoicesProps<Choice>) {
  return (
    <fieldset className="choices">
      <legend className="field-label">{legend}</legend>
      {of.map((each) => (
        <label key={words(each)}>
          <input type="radio" name={legend} checked={each === chosen} onChange={() => onChoose(each)} />
          {words(each)}
        </label>
      ))}
    </fieldset>
  );
}

function wholeNumber(text: string): number | undefined {
  return /^\d+$/.test(text) ? Number(text) : undefined;
}

/** The answers, once every item has one. */
function complete(answered: Answered, instrument: Instrument): number[] | undefined {
  const given = answered.filter((answer) => answer !== undefined);
  return given.length === instrument.items.length ? given : undefined;
}
