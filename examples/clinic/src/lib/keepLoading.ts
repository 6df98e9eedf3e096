const PAUSE_MS = 1_000;

/** A part of the app, asked for until it comes: while the server is away the skeleton stays, and the rest goes on. */
export async function keepLoading<Part>(load: () => Promise<Part>): Promise<Part> {
  let ask = load;
  for (let again = 1; ; again += 1) {
    try {
      return await ask();
    } catch (error) {
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      // Some browsers remember that a module did not come, and ask for it no more: under another name they do. Those
      // name it in the error; the others ask again by themselves.
      const url = /https?:\/\/[^\s?]+\.js/.exec(String(error))?.[0];
      ask = url === undefined ? load : () => import(/* @vite-ignore */ `${url}?again=${again}`) as Promise<Part>;
    }
  }
}
