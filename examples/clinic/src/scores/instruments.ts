/** What the chart knows of a questionnaire: its range and its published severity bands. */
export interface Instrument {
  readonly code: string;
  readonly name: string;
  readonly about: string;
  readonly max: number;
  /** Ascending; each band reaches from `from` to the next band's `from` - 1. */
  readonly bands: readonly Band[];
}

export interface Band {
  readonly from: number;
  readonly name: string;
  /** 0 (least) to 4 (most): the colour, the same for every instrument. */
  readonly level: 0 | 1 | 2 | 3 | 4;
}

export const phq9: Instrument = {
  code: "phq-9",
  name: "PHQ-9",
  about: "Depression",
  max: 27,
  bands: [
    { from: 0, name: "Minimal", level: 0 },
    { from: 5, name: "Mild", level: 1 },
    { from: 10, name: "Moderate", level: 2 },
    { from: 15, name: "Mod. severe", level: 3 },
    { from: 20, name: "Severe", level: 4 },
  ],
};

export const gad7: Instrument = {
  code: "gad-7",
  name: "GAD-7",
  about: "Anxiety",
  max: 21,
  bands: [
    { from: 0, name: "Minimal", level: 0 },
    { from: 5, name: "Mild", level: 1 },
    { from: 10, name: "Moderate", level: 2 },
    { from: 15, name: "Severe", level: 4 },
  ],
};

export function bandOf(instrument: Instrument, value: number): Band | undefined {
  return instrument.bands.findLast((band) => value >= band.from);
}
