import { skip, useClinicalQuery } from "bonfire/react";
import { memo, useEffect, useRef, useState } from "react";
import { api, type FoundPatient, type ListedPatient } from "../api.ts";
import { Link, navigate } from "../lib/router.tsx";
import { useArrivals } from "../lib/useArrivals.ts";
import { useNow } from "../lib/useNow.ts";
import { useSettled } from "../lib/useSettled.ts";
import { Empty } from "../ui/Empty.tsx";
import { Icon } from "../ui/Icon.tsx";
import { NewPatient } from "./NewPatient.tsx";
import { ageOf, bornOf, chartName, sexOf } from "./person.ts";
import "./patients.css";

const TYPING_MS = 150;

/** Everybody of the clinic, or those that a search finds. Live in both cases. */
export function PatientList({ currentId }: { currentId: string | undefined }) {
  const [text, setText] = useState("");
  const [adding, setAdding] = useState(false);
  const sought = useSettled(text.trim(), TYPING_MS);
  const all = useClinicalQuery(api.patients.list, {});
  const found = useClinicalQuery(api.patients.search, sought === "" ? skip : { text: sought });
  const rows = found.status === "skipped" ? all.data : found.data;
  const arrived = useArrivals(all.data, rowSignature);
  const now = useNow();

  return (
    <section
      className="rail"
      aria-label="Patients"
      role={currentId === undefined ? "main" : "complementary"}
      id={currentId === undefined ? "content" : undefined}
    >
      <div className="patients-head">
        <div className="patients-title">
          <h1>
            Patients{" "}
            {all.data && (
              <span className="count figures">
                {all.data.length}
                {all.more && "+"}
              </span>
            )}
          </h1>
          <button type="button" className="button button-small" onClick={() => setAdding(true)}>
            <Icon name="plus" size={16} />
            New patient
          </button>
        </div>
        <div className="search">
          <Icon name="search" />
          <input
            type="search"
            className="input"
            aria-label="Search patients"
            placeholder="Name or MRN"
            autoComplete="off"
            spellCheck={false}
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
        </div>
      </div>
      <div className="patients scroller">
        {rows === undefined ? (
          <PatientSkeletons />
        ) : rows.length === 0 ? (
          sought === "" ? (
            <Empty icon="people" title="No patients yet">
              Add the first one, or import a folder of FHIR bundles: they appear here by themselves.
            </Empty>
          ) : (
            <Empty icon="search" title="Nobody found">
              Try a part of a family name, a given name or a record number.
            </Empty>
          )
        ) : (
          <div className="patients-sheet">
            <div className="patients-columns" aria-hidden="true">
              <span>Name</span>
              <span>Age</span>
              <span>Sex</span>
              <span>Born</span>
              <span>MRN</span>
            </div>
            <ul data-testid="patients">
              {rows.map((row) => (
                <PatientItem
                  key={row.id}
                  row={row}
                  now={now}
                  current={row.id === currentId}
                  arrived={arrived.has(row.id)}
                />
              ))}
            </ul>
          </div>
        )}
      </div>
      {adding && (
        <NewPatient
          onAdded={(patientId) => {
            setAdding(false);
            setText("");
            navigate({ screen: "chart", patientId });
          }}
          onClose={() => setAdding(false)}
        />
      )}
    </section>
  );
}

interface PatientItemProps {
  row: ListedPatient | FoundPatient;
  now: Date;
  current: boolean;
  arrived: boolean;
}

const PatientItem = memo(function PatientItem({ row, now, current, arrived }: PatientItemProps) {
  const item = useRef<HTMLLIElement>(null);
  useEffect(() => {
    if (current) item.current?.scrollIntoView({ block: "nearest" });
  }, [current]);
  return (
    <li ref={item}>
      <Link
        to={{ screen: "chart", patientId: row.id }}
        className={arrived ? "patient-row arrived" : "patient-row"}
        aria-current={current ? "page" : undefined}
        data-testid="patient"
      >
        <span className="patient-name">{chartName(row)}</span>
        <span className="patient-age figures">{ageOf(row, now)}</span>
        <span className="patient-about faint figures">
          <span>{sexOf(row)}</span>
          <span>{bornOf(row)}</span>
        </span>
        <span className="patient-number faint figures">{row.identifier}</span>
      </Link>
    </li>
  );
});

const rowSignature = (row: ListedPatient): string => `${chartName(row)} ${row.birthDate} ${row.gender}`;

const WIDTHS = [58, 72, 49, 66, 81, 54, 77, 62, 46, 69, 52, 74];

function PatientSkeletons() {
  return (
    <div aria-busy="true" className="patients-sheet">
      <span className="visually-hidden">Loading patients</span>
      {WIDTHS.map((width) => (
        <div key={width} className="patient-row">
          <span className="skeleton" style={{ width: `${width}%` }} />
        </div>
      ))}
    </div>
  );
}
