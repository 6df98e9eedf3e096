import { useClinicalQuery } from "bonfire/react";
import { useMemo, useState } from "react";
import { api, type Score } from "../api.ts";
import { formatDay } from "../lib/dates.ts";
import { useArrivals } from "../lib/useArrivals.ts";
import { Announcer } from "../ui/Announcer.tsx";
import { Icon } from "../ui/Icon.tsx";
import { bandOf, gad7, type Instrument, phq9 } from "./instruments.ts";
import { Plot, type Point } from "./Plot.tsx";
import { RecordScore } from "./RecordScore.tsx";
import "./scores.css";

interface ScoresProps {
  patientId: string;
  patientName: string;
}

/** The questionnaires that this clinic follows, each over time. */
export function Scores({ patientId, patientName }: ScoresProps) {
  const [recording, setRecording] = useState(false);
  return (
    <section className="scores" aria-labelledby="scores-heading" data-holds="Scores">
      <div className="part-title">
        <h2 id="scores-heading" className="part-heading">
          Scores
        </h2>
        <button type="button" className="button button-small" onClick={() => setRecording(true)}>
          <Icon name="plus" size={16} />
          Record score
        </button>
      </div>
      <ScoreCard instrument={phq9} patientId={patientId} />
      <ScoreCard instrument={gad7} patientId={patientId} />
      {recording && <RecordScore patientId={patientId} patientName={patientName} onClose={() => setRecording(false)} />}
    </section>
  );
}

function ScoreCard({ instrument, patientId }: { instrument: Instrument; patientId: string }) {
  const { data, error } = useClinicalQuery(api.scores.history, { patientId, code: instrument.code });
  const arrived = useArrivals(data, signature);
  const [pointed, setPointed] = useState<Point>();
  const points = useMemo(() => data && pointsOf(data), [data]);
  const shown = pointed ?? points?.at(-1);
  const band = shown && bandOf(instrument, shown.value);

  return (
    <figure
      className={arrived.size > 0 ? "score arrived" : "score"}
      data-testid={`score-${instrument.code}`}
      aria-label={instrument.name}
    >
      <figcaption className="score-head">
        <h3>
          {instrument.name} <span className="faint">{instrument.about}</span>
        </h3>
        {shown && (
          <p className="score-now figures">
            <time dateTime={shown.at.toISOString()}>{formatDay(shown.at)}</time>
            <span className={`severity severity-${band?.level ?? 0}`}>{band?.name}</span>
            <strong data-testid="score-value">{shown.value}</strong>
          </p>
        )}
      </figcaption>
      <Announcer>{arrived.size > 0 && `A new ${instrument.name} score has come in.`}</Announcer>
      {error ? (
        <p className="problem">{error.message}</p>
      ) : points === undefined ? (
        <div className="plot" aria-busy="true">
          <span className="skeleton" style={{ height: "100%" }} />
        </div>
      ) : points.length === 0 ? (
        <p className="score-none">None recorded yet.</p>
      ) : (
        <>
          <Plot instrument={instrument} points={points} onPoint={setPointed} />
          <Values instrument={instrument} points={points} />
        </>
      )}
    </figure>
  );
}

function Values({ instrument, points }: { instrument: Instrument; points: readonly Point[] }) {
  return (
    <details className="score-values">
      <summary>{points.length === 1 ? "1 value" : `${points.length} values`}</summary>
      <table className="figures">
        <thead className="visually-hidden">
          <tr>
            <th>Date</th>
            <th>Score</th>
            <th>Severity</th>
          </tr>
        </thead>
        <tbody>
          {points.toReversed().map((point) => (
            <tr key={point.id}>
              <td>{formatDay(point.at)}</td>
              <td>{point.value}</td>
              <td>{bandOf(instrument, point.value)?.name}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}

const signature = (score: Score): string => `${score.value} ${score.at}`;

/** Oldest first, whatever order they come in; a score without a value is no point. */
function pointsOf(scores: readonly Score[]): Point[] {
  return scores
    .flatMap(({ id, at, value }) => (at === null || value === null ? [] : [{ id, at: new Date(at), value }]))
    .sort((a, b) => a.at.getTime() - b.at.getTime());
}
