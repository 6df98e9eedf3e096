import { useClinicalQuery } from "bonfire/react";
import { useState } from "react";
import { api } from "../api.ts";
import { Notes } from "../notes/Notes.tsx";
import { chartName } from "../patients/person.ts";
import { Scores } from "../scores/Scores.tsx";
import { Timeline } from "../timeline/Timeline.tsx";
import { Empty } from "../ui/Empty.tsx";
import { Banner } from "./Banner.tsx";
import { ChartSkeleton } from "./ChartSkeleton.tsx";
import "./chart.css";

const parts = ["Notes", "Scores", "Timeline"] as const;

/** One patient's chart: who it is, always in view; notes beside scores and timeline, or one at a time on a phone. */
export default function Chart({ patientId }: { patientId: string }) {
  const { data: patient, error } = useClinicalQuery(api.patients.get, { patientId });
  const [part, setPart] = useState<(typeof parts)[number]>("Notes");

  if (error !== null || patient === null) {
    return (
      <main className="stage chart" id="content">
        <Empty icon="people" title="No such chart">
          {error?.message ?? "This record does not exist, or no longer does. Choose somebody from the list."}
        </Empty>
      </main>
    );
  }
  if (patient === undefined) return <ChartSkeleton />;

  const name = chartName(patient);
  return (
    <main className="stage chart" id="content" data-part={part} aria-label={`Chart of ${name}`}>
      <Banner patient={patient} />
      <nav className="chart-parts" aria-label="Part of the chart">
        {parts.map((each) => (
          <button key={each} type="button" aria-pressed={each === part} onClick={() => setPart(each)}>
            {each}
          </button>
        ))}
      </nav>
      <div className="chart-body">
        <div className="chart-main scroller" data-holds="Notes">
          <Notes patientId={patientId} patientName={name} />
        </div>
        <div className="chart-side scroller">
          <Scores patientId={patientId} patientName={name} />
          <Timeline patientId={patientId} />
        </div>
      </div>
    </main>
  );
}
