// Prints every event of the repositories that TOKEN (role auditor or admin) may follow, and resumes where it
// stopped. After `npm ci && npm run build`, with the service running:
//
//   TOKEN=$(npx keyledger token --repo '*' --role auditor) node examples/subscriber.mjs

import { readFile, rename, writeFile } from 'node:fs/promises';
import { createClient } from 'keyledger/client';

const { BASE_URL = 'http://127.0.0.1:8080', TOKEN = '', POSITION_FILE = 'subscriber.position' } = process.env;

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => stop.abort());

// A long-running subscriber passes a function here, which returns a fresh token for each connection.
const client = createClient({ baseUrl: BASE_URL, token: TOKEN });

try {
  for await (const event of client.events({ after: await position(), signal: stop.signal })) {
    console.log(event.time, event.type, event.subject ?? '-', escaped(JSON.stringify(event.data)));
    // Only now: if this process is killed in between, the event is delivered again. The other way round it is lost.
    await keep(event.position);
  }
} catch (error) {
  if (!stop.signal.aborted) {
    console.error(error.message);
    process.exitCode = 1;
  }
}

// Names come from outside: escape what would command the terminal or look like something else.
function escaped(json) {
  const code = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return json.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]/gu, code);
}

async function position() {
  try {
    return await readFile(POSITION_FILE, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return 'start';
    throw error;
  }
}

// A file is replaced as a whole or not at all.
async function keep(position) {
  await writeFile(`${POSITION_FILE}.new`, position);
  await rename(`${POSITION_FILE}.new`, POSITION_FILE);
}
