/** What the chart knows of a questionnaire: its range and its published severity bands. */
export interface Instrument {
  readonly code: string;
  readonly name: string;
  readonly about: string;
  readonly max: number;
  /** What is asked about, in the form's order; each is answered 0 to 3. */
  readonly items: readonly string[];
  /** The place in `items` of the question about self-harm, where the form has one. */
  readonly safetyItem?: number;
  /** Ascending; each band reaches from `from` to the next band's `from` - 1. */
  readonly bands: readonly Band[];
}

export interface Band {
  readonly from: number;
  readonly name: string;
  /** Where there is little room. */
  readonly short?: string;
  /** 0 (least) to 4 (most): the colour, the same for every instrument. */
  readonly level: 0 | 1 | 2 | 3 | 4;
}

/** What both questionnaires let a person answer; the place in this list is the answer's score. */
export const answers = ["Not at all", "Several days", "More than half the days", "Nearly every day"] as const;

export const phq9: Instrument = {
  code: "phq-9",
  name: "PHQ-9",
  about: "Depression",
  max: 27,
  items: [
    "Interest or pleasure",
    "Low mood",
    "Sleep",
    "Energy",
    "Appetite",
    "Self-regard",
    "Concentration",
    "Slowed or restless",
    "Thoughts of death or self-harm",
  ],
  safetyItem: 8,
  bands: [
    { from: 0, name: "Minimal", level: 0 },
    { from: 5, name: "Mild", level: 1 },
    { from: 10, name: "Moderate", level: 2 },
    { from: 15, name: "Moderately severe", short: "Mod. severe", level: 3 },
    { from: 20, name: "Severe", level: 4 },
  ],
};

export const gad7: Instrument = {
  code: "gad-7",
  name: "GAD-7",
  about: "Anxiety",
  max: 21,
  items: [
    "Nervous or on edge",
    "Unable to stop worrying",
    "Worrying too much",
    "Trouble relaxing",
    "Restless",
    "Irritable",
    "Afraid that something awful might happen",
  ],
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
