/** The vectors that Python and TypeScript both run. */

import { readFileSync } from "node:fs";
import { join } from "node:path";

const FOLDER = join(import.meta.dirname, "../../protocol/vectors");

export function vectors<Case>(name: string): readonly Case[] {
  return JSON.parse(readFileSync(join(FOLDER, `${name}.json`), "utf8"));
}
