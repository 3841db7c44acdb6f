import { readFileSync, watchFile } from 'node:fs';

/** Preload of an instance: shifts its wall clock by the milliseconds in the file that KEYLEDGER_TORTURE_CLOCK names. */
const file = process.env['KEYLEDGER_TORTURE_CLOCK'] ?? '';
const RealDate = Date;
let wrongByMs = read();
watchFile(file, { interval: 50, persistent: false }, () => {
  wrongByMs = read();
});

function read(): number {
  return Number(readFileSync(file, 'utf8')) || 0;
}

class WrongDate extends RealDate {
  constructor(...args: [] | ConstructorParameters<typeof RealDate>) {
    if (args.length === 0) super(WrongDate.now());
    else super(...args);
  }

  static override now(): number {
    return RealDate.now() + wrongByMs;
  }
}
globalThis.Date = WrongDate as DateConstructor;
