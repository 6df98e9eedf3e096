/** Positions: a commit's place in the database's commit order, spelled `0/16B3748`. */

/** Two hexadecimal numbers of up to 8 digits, joined by `/`: as Postgres spells an LSN. */
export type Position = string;

/** Negative where `a` is before `b`, 0 where they are the same, positive where `a` is after `b`. */
export function comparePositions(a: Position, b: Position): number {
  const [highA, lowA] = halves(a);
  const [highB, lowB] = halves(b);
  return highA - highB || lowA - lowB;
}

/** Whether `position` has got as far as `goal`. A position that is not known has got nowhere. */
export function reached(position: Position | null, goal: Position): boolean {
  return position !== null && comparePositions(position, goal) >= 0;
}

function halves(position: Position): [number, number] {
  const [high = "", low = ""] = position.split("/");
  return [Number.parseInt(high, 16), Number.parseInt(low, 16)];
}
