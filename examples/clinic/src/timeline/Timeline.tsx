import { useClinicalQuery } from "bonfire/react";
import { memo, useMemo, useState } from "react";
import { api, type TimelineEvent } from "../api.ts";
import { formatDayOfMonth, formatMonth } from "../lib/dates.ts";
import { useArrivals } from "../lib/useArrivals.ts";
import { Empty } from "../ui/Empty.tsx";
import { Icon } from "../ui/Icon.tsx";
import { kindOf, kinds } from "./kinds.ts";
import "./timeline.css";

const WINDOW = 300;
const LARGEST = 1000;

/** All that happened to a patient, newest first, by month. */
export function Timeline({ patientId }: { patientId: string }) {
  const [limit, setLimit] = useState(WINDOW);
  const { data, error, more } = useClinicalQuery(api.timeline.list, { patientId, limit });
  // While a longer window is loading, the shorter one stays.
  const [held, setHeld] = useState(data);
  if (data !== undefined && data !== held) setHeld(data);
  const events = data ?? held;
  const arrived = useArrivals(limit === WINDOW ? data : undefined, signature);
  const [only, setOnly] = useState<string>();
  const present = useMemo(
    () => events && kinds.filter((kind) => events.some((event) => kindOf(event) === kind)),
    [events],
  );
  const months = useMemo(
    () => events && byMonth(only === undefined ? events : events.filter((event) => kindOf(event).name === only)),
    [events, only],
  );

  return (
    <section className="timeline" aria-labelledby="timeline-heading" data-holds="Timeline">
      <div className="timeline-head">
        <h2 id="timeline-heading" className="part-heading">
          Timeline{" "}
          {events && (
            <span className="count figures">
              {events.length}
              {more && "+"}
            </span>
          )}
        </h2>
        {present && present.length > 1 && (
          <select
            className="input timeline-filter"
            aria-label="Show on the timeline"
            value={only ?? ""}
            onChange={(event) => setOnly(event.target.value || undefined)}
          >
            <option value="">Everything</option>
            {present.map((kind) => (
              <option key={kind.name} value={kind.name}>
                {kind.plural}
              </option>
            ))}
          </select>
        )}
      </div>
      {error && <p className="problem">{error.message}</p>}
      {months === undefined ? (
        !error && <TimelineSkeletons />
      ) : months.length === 0 ? (
        <Empty icon="clock" title="Nothing yet">
          Visits, notes, scores, conditions, medication and files line up here.
        </Empty>
      ) : (
        <div data-testid="timeline">
          {months.map(({ name, events: those }) => (
            <Month key={name} name={name} events={those} arrived={arrived} />
          ))}
          {more && limit < LARGEST && (
            <button type="button" className="button timeline-more" onClick={() => setLimit(LARGEST)}>
              Show earlier
            </button>
          )}
        </div>
      )}
    </section>
  );
}

interface MonthProps {
  name: string;
  events: readonly TimelineEvent[];
  arrived: ReadonlySet<string>;
}

/** A month is laid out only when it comes near the screen: its place is kept by its number of rows. */
function Month({ name, events, arrived }: MonthProps) {
  return (
    <section className="month" style={{ containIntrinsicBlockSize: `auto ${2 + events.length * 2.75}rem` }}>
      <h3>{name}</h3>
      <ol>
        {events.map((event) => (
          <EventRow key={event.id} event={event} arrived={arrived.has(event.id)} />
        ))}
      </ol>
    </section>
  );
}

const EventRow = memo(function EventRow({ event, arrived }: { event: TimelineEvent; arrived: boolean }) {
  const kind = kindOf(event);
  const at = event.at === null ? null : new Date(event.at);
  const detail = detailOf(event);
  return (
    <li className={arrived ? "event arrived" : "event"} data-testid="event" data-kind={kind.name}>
      <span className="event-icon" title={kind.singular}>
        <Icon name={kind.icon} size={16} />
        <span className="visually-hidden">{kind.singular}</span>
      </span>
      <p className="event-what">
        <span>{event.title ?? kind.singular}</span>
        {detail !== "" && <span className="faint">{detail}</span>}
      </p>
      {at && <time dateTime={at.toISOString()}>{formatDayOfMonth(at)}</time>}
    </li>
  );
});

const signature = (event: TimelineEvent): string => `${event.title} ${event.detail} ${event.status}`;

const NOTE_STATUS: Readonly<Record<string, string>> = {
  draft: "unsigned",
  amended: "amended",
  superseded: "superseded",
};

/** What stands under the title; without UCUM's remarks, as the `{score}` of `12 {score}` is for machines. */
function detailOf(event: TimelineEvent): string {
  const status = event.kind === "note" && event.status !== null ? NOTE_STATUS[event.status] : undefined;
  const parts = [event.detail?.replace(/\s*\{[^}]*\}/g, ""), status];
  return parts.filter(Boolean).join(", ");
}

/** Runs of rows of one month, in the order given: that of the list. */
function byMonth(events: readonly TimelineEvent[]): { name: string; events: TimelineEvent[] }[] {
  const months: { name: string; events: TimelineEvent[] }[] = [];
  for (const event of events) {
    const name = event.at === null ? "Without a date" : formatMonth(new Date(event.at));
    const last = months.at(-1);
    if (last?.name === name) last.events.push(event);
    else months.push({ name, events: [event] });
  }
  return months;
}

const WIDTHS = [64, 82, 57, 73, 90, 61, 78, 69];

function TimelineSkeletons() {
  return (
    <div aria-busy="true">
      <span className="visually-hidden">Loading timeline</span>
      {WIDTHS.map((width) => (
        <div key={width} className="event">
          <span className="skeleton event-icon" />
          <span className="skeleton" style={{ width: `${width}%` }} />
        </div>
      ))}
    </div>
  );
}
