// Long steps that a person sees moving. On a terminal one line is rewritten every second; elsewhere a line is written
// every ten seconds.
const TERMINAL = process.stderr.isTTY === true;
const REWRITE_MS = 1_000;
const REPEAT_MS = 10_000;
/** A step as short as this leaves no line behind. */
const SHORT_MS = 2_000;

/** The steps under way: name to `{ began, note }`. */
const running = new Map();
let clock;

const seconds = (ms) => `${Math.round(ms / 1000)} s`;

function status() {
  return [...running].map(([name, { began, note }]) => [name, note, seconds(Date.now() - began)].filter(Boolean).join(", "));
}

const erase = () => TERMINAL && running.size > 0 && process.stderr.write("\r\x1b[K");

function draw() {
  if (running.size === 0) return;
  const line = status().join(" | ");
  if (TERMINAL) process.stderr.write(`\r\x1b[K${line.slice(0, (process.stderr.columns || 80) - 1)}`);
  else process.stderr.write(`  … ${line}\n`);
}

/** Writes a line for a person. */
export function say(line) {
  erase();
  process.stderr.write(`${line}\n`);
  if (TERMINAL) draw();
}

/** Passes a child's output on, clear of the status line. */
export function pass(stream, chunk) {
  erase();
  stream.write(chunk);
}

/**
 * Runs a step and shows that it is under way. `act` gets `note(text)`, which says how far it is ("23 of 43 crates").
 * Answers what `act` answers.
 */
export async function step(name, act) {
  const own = { began: Date.now(), note: "" };
  running.set(name, own);
  clock ??= setInterval(draw, TERMINAL ? REWRITE_MS : REPEAT_MS);
  const over = () => {
    erase();
    running.delete(name);
    if (running.size === 0) clock = clearInterval(clock);
  };
  try {
    const result = await act((note) => (own.note = note));
    over();
    const took = Date.now() - own.began;
    if (took >= SHORT_MS) say(`${name}: done in ${seconds(took)}`);
    return result;
  } catch (error) {
    over();
    say(`${name}: failed after ${seconds(Date.now() - own.began)}`);
    throw error;
  }
}
