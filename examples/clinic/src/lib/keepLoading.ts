const PAUSE_MS = 1_000;

/** A part of the app, asked for until it comes: while the server is away the skeleton stays, and the rest goes on. */
export async function keepLoading<Part>(load: () => Promise<Part>): Promise<Part> {
  for (;;) {
    try {
      return await load();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}
