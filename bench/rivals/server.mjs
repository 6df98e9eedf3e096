// The live server that a competent developer writes by hand in Node: `ws`, `pg`, LISTEN.
//
// `node --expose-gc server.mjs push|requery DATABASE_URL`
//   push     a change's notification carries the row, which goes to the patient's subscribers as it is;
//   requery  a notification carries the patient's id: the rows are read again, once for all subscribers.
//
// There is no access, order, resume, acknowledgement, backpressure or atomicity: a client that misses a message never
// knows. It answers questions on stdin as the other processes of the benchmark do: one JSON object a line.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import pg from "pg";
import { WebSocketServer } from "ws";

const [variant, url] = process.argv.slice(2);
const sql = readFileSync(new URL("rows.sql", import.meta.url), "utf8");

const pool = new pg.Pool({ connectionString: url, max: 8 });
const subscribers = new Map(); // patient -> Set of sockets
const reads = new Map(); // patient -> the read under way that newcomers may share

async function read(patient) {
  const { rows } = await pool.query({ name: "rows", text: sql, values: [patient] });
  return Buffer.from(`{"type":"rows","patient":${JSON.stringify(patient)},"rows":${rows[0].rows}}`);
}

function readShared(patient) {
  let reading = reads.get(patient);
  if (reading === undefined) {
    reading = read(patient).finally(() => reads.delete(patient));
    reads.set(patient, reading);
  }
  return reading;
}

// Buffers, and not strings: `ws` would turn a string into bytes again for each socket.
function broadcast(patient, data) {
  for (const socket of subscribers.get(patient) ?? []) socket.send(data, { binary: false });
}

function push(payload) {
  const row = JSON.parse(payload);
  if (subscribers.has(row.patient)) broadcast(row.patient, Buffer.from(JSON.stringify({ type: "row", row })));
}

// At most one read of a patient at a time; what changes meanwhile is one more read after it.
const changing = new Map(); // patient -> whether it has changed again

async function requery(patient) {
  if (!subscribers.has(patient)) return;
  if (changing.has(patient)) {
    changing.set(patient, true);
    return;
  }
  do {
    changing.set(patient, false);
    broadcast(patient, await read(patient));
  } while (changing.get(patient));
  changing.delete(patient);
}

const listener = new pg.Client({ connectionString: url });
listener.on("notification", ({ payload }) => (variant === "push" ? push(payload) : requery(payload)));
await listener.connect();
await listener.query("listen notes");

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, backlog: 4096, perMessageDeflate: false });

server.on("connection", (socket) => {
  const patients = new Set();
  socket.on("message", async (message) => {
    const { patient } = JSON.parse(message);
    patients.add(patient);
    if (!subscribers.has(patient)) subscribers.set(patient, new Set());
    subscribers.get(patient).add(socket);
    socket.send(await readShared(patient), { binary: false });
  });
  socket.on("error", () => socket.terminate());
  socket.on("close", () => {
    for (const patient of patients) {
      const sockets = subscribers.get(patient);
      sockets.delete(socket);
      if (sockets.size === 0) subscribers.delete(patient);
    }
  });
});

function usage() {
  const { user, system } = process.cpuUsage();
  return { cpu: (user + system) / 1e6, kb: process.memoryUsage.rss() / 1024 };
}

const say = (words) => process.stdout.write(JSON.stringify(words) + "\n");

server.on("listening", () => {
  say({ port: server.address().port });
  const questions = createInterface({ input: process.stdin });
  questions.on("line", (line) => {
    if (JSON.parse(line).collect) globalThis.gc();
    say(usage());
  });
  questions.on("close", () => process.exit(0));
});
