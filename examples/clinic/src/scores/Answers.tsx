import { answers, type Instrument } from "./instruments.ts";

interface AnswersProps {
  instrument: Instrument;
  answered: readonly (number | undefined)[];
  onAnswer: (item: number, answer: number) => void;
}

/** The form itself: one row for each item, 0 to 3. Arrow keys move within a row, Tab to the next. */
export function Answers({ instrument, answered, onAnswer }: AnswersProps) {
  const { safetyItem } = instrument;
  const unsafe = safetyItem !== undefined && (answered[safetyItem] ?? 0) > 0;
  return (
    <div className="answers">
      <p className="field-hint">
        Over the last two weeks: {answers.map((answer, score) => `${score}\u00a0${answer.toLowerCase()}`).join(", ")}.
      </p>
      {instrument.items.map((item, index) => (
        <fieldset key={item} className="answer">
          <legend>{item}</legend>
          <div>
            {answers.map((answer, score) => (
              <label key={answer} title={answer}>
                <input
                  type="radio"
                  name={`item-${index}`}
                  aria-label={`${score}, ${answer.toLowerCase()}`}
                  checked={answered[index] === score}
                  onChange={() => onAnswer(index, score)}
                />
                <span aria-hidden="true">{score}</span>
              </label>
            ))}
          </div>
        </fieldset>
      ))}
      {unsafe && (
        <p className="answers-safety" role="status">
          The last answer is above 0: ask about safety before the visit ends.
        </p>
      )}
    </div>
  );
}
