import { type PointerEvent, useState } from "react";
import { formatDay } from "../lib/dates.ts";
import { useWidth } from "../lib/useWidth.ts";
import { bandOf, type Instrument } from "./instruments.ts";

export interface Point {
  readonly id: string;
  readonly at: Date;
  readonly value: number;
}

const HEIGHT = 148;
const TOP = 10;
const BOTTOM = 22;
const LEFT = 26;
const RIGHT = 78;

interface PlotProps {
  instrument: Instrument;
  /** Oldest first, at least one. */
  points: readonly Point[];
  /** The point under the pointer, or none. */
  onPoint: (point: Point | undefined) => void;
}

/** Scores over time on their severity bands. The values are also in the table beside it: the plot is for the eye. */
export function Plot({ instrument, points, onPoint }: PlotProps) {
  const [frame, width] = useWidth();
  const [near, setNear] = useState<string>();
  const first = points[0];
  const last = points.at(-1);
  if (first === undefined || last === undefined) return null;

  const span = last.at.getTime() - first.at.getTime();
  const right = Math.max(LEFT + 1, width - RIGHT);
  const x = (at: Date): number =>
    span === 0 ? (LEFT + right) / 2 : LEFT + 8 + ((at.getTime() - first.at.getTime()) / span) * (right - LEFT - 16);
  const y = (value: number): number => HEIGHT - BOTTOM - (value / instrument.max) * (HEIGHT - TOP - BOTTOM);

  const show = (point: Point | undefined): void => {
    setNear(point?.id);
    onPoint(point);
  };
  const follow = (event: PointerEvent<SVGSVGElement>): void => {
    const at = event.clientX - event.currentTarget.getBoundingClientRect().left;
    show(points.reduce((best, point) => (Math.abs(x(point.at) - at) < Math.abs(x(best.at) - at) ? point : best)));
  };
  const marked = points.find((point) => point.id === near);

  return (
    <div ref={frame} className="plot">
      <svg
        width="100%"
        height={HEIGHT}
        role="img"
        aria-label={describe(instrument, points)}
        onPointerMove={follow}
        onPointerDown={follow}
        onPointerLeave={() => show(undefined)}
      >
        {instrument.bands.map((band, index) => {
          const above = instrument.bands[index + 1]?.from ?? instrument.max;
          return (
            <g key={band.name}>
              <rect
                x={LEFT}
                y={y(above)}
                width={right - LEFT}
                height={y(band.from) - y(above)}
                className={`band-${band.level}`}
              />
              <text x={LEFT - 6} y={y(band.from)} dy="0.32em" textAnchor="end">
                {band.from}
              </text>
              <text x={right + 8} y={(y(band.from) + y(above)) / 2} dy="0.32em">
                {band.short ?? band.name}
              </text>
            </g>
          );
        })}
        {marked && <line x1={x(marked.at)} x2={x(marked.at)} y1={TOP} y2={HEIGHT - BOTTOM} className="plot-cursor" />}
        <polyline points={points.map((point) => `${x(point.at)},${y(point.value)}`).join(" ")} className="plot-line" />
        {points.map((point) => (
          <circle
            key={point.id}
            cx={x(point.at)}
            cy={y(point.value)}
            r={point === last || point === marked ? 5 : 3.5}
            className={`severity-${bandOf(instrument, point.value)?.level ?? 0}`}
          />
        ))}
        <text x={span === 0 ? x(first.at) : LEFT} y={HEIGHT - 5} textAnchor={span === 0 ? "middle" : "start"}>
          {formatDay(first.at)}
        </text>
        {span > 0 && (
          <text x={right} y={HEIGHT - 5} textAnchor="end">
            {formatDay(last.at)}
          </text>
        )}
      </svg>
    </div>
  );
}

function describe(instrument: Instrument, points: readonly Point[]): string {
  const said = (point: Point): string =>
    `${point.value}, ${bandOf(instrument, point.value)?.name ?? "out of range"}, on ${formatDay(point.at)}`;
  const [first] = points;
  const last = points.at(-1);
  if (first === undefined || last === undefined) return instrument.name;
  if (first === last) return `${instrument.name}: ${said(last)}`;
  return `${instrument.name}, ${points.length} values: from ${said(first)} to ${said(last)}`;
}
