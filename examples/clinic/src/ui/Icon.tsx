const paths = {
  search: "M10.500 4a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13zM15.500 15.500 20 20",
  back: "M14.500 5.500 8 12l6.500 6.500",
  plus: "M12 5v14M5 12h14",
  note: "M6 3.500h8.500L19 8v12.500H6zM14 3.500V8.500h5M9 12.500h7M9 16h5",
  pen: "M4.500 19.500l1-4.200L16 4.800l3.200 3.200L8.700 18.500zM13.500 7.300l3.200 3.200",
  check: "M5 12.500l4.500 4.500L19 7.500",
  clock: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4.300l2.800 1.700",
  visit: "M4.500 20V9.500L12 4l7.500 5.500V20M9.500 20v-6h5v6",
  score: "M4 19.500h16M6 15.500l4-4.500 3.500 3L19 7",
  lab: "M9.500 4h5M10.500 4v6L5.800 18.300A1.200 1.200 0 0 0 6.900 20h10.200a1.200 1.200 0 0 0 1.100-1.700L13.500 10V4M8.500 14.500h7",
  condition: "M4 12.500h3.500l2-5.500 4.500 10.500 2.200-5H20",
  medication:
    "M8.200 19.300a3.900 3.900 0 0 1-3.500-6.700l6-6a3.900 3.900 0 0 1 5.500 5.500l-6 6a3.900 3.900 0 0 1-2 1.200zM8.500 9.500l5.500 5.500M17 15.500l3 3M20 15.500l-3 3",
  procedure: "M5 19l8.500-8.500M12 5l7 7-3.500 1.500L10.500 8.500zM4 20h6",
  immunization: "M14.500 4.500l5 5M17 7l-8.500 8.500-3-3L14 4M7 14l-3.500 6.500L10 17M10 9.500l2 2",
  allergy: "M12 4.500 20.500 19h-17zM12 10.500v4M12 17v.010",
  report: "M7.500 5H5.500v15.500h13V5h-2M9 3.500h6v3H9zM8.500 11h7M8.500 14.500h7",
  file: "M6 3.500h8.500L19 8v12.500H6zM14 3.500V8.500h5",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  cloud: "M7.500 18.500a4 4 0 0 1-.4-8 5.200 5.200 0 0 1 10-.8 4.400 4.400 0 0 1 .1 8.800z",
  people:
    "M9 11.500a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7zM2.500 19.500c.5-3.500 3-5.500 6.500-5.500s6 2 6.500 5.500M15.500 5a3.500 3.500 0 0 1 0 6.500M18 14.800c2 .9 3.200 2.500 3.500 4.700",
} as const;

export type IconName = keyof typeof paths;

/** A line icon of 24 units. It is decoration: the text beside it says the same. */
export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 24 24" fill="none" aria-hidden="true" focusable="false">
      <path d={paths[name]} stroke="currentColor" strokeWidth={1.7} strokeLinecap="round" strokeLinejoin="round" />
    </svg>
  );
}
