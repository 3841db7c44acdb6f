import { userInfo } from 'node:os';
import { type Command, InvalidArgumentError } from 'commander';
import { REPO_ID, REPO_ID_RULE } from '../domain/authorization.js';

/**
 * Parses the id of a repository.
 * @throws InvalidArgumentError
 */
export function repository(text: string): string {
  if (!REPO_ID.test(text)) throw new InvalidArgumentError(`It ${REPO_ID_RULE}.`);
  return text;
}

/** Makes every command reject a repeated option, instead of silently using the last one. */
export function refuseRepeatedOptions(command: Command): void {
  for (const option of command.options) {
    let count = 0;
    command.on(`option:${option.name()}`, () => {
      if (++count > 1) command.error(`error: option '${option.flags}' is repeated`);
    });
  }
  command.commands.forEach(refuseRepeatedOptions);
}

/** Name of the user that runs this process; its number if the system has no name for it, as in a container. */
export function operatingSystemUser(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? 'unknown');
  }
}
