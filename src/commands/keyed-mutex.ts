/**
 * Runs tasks of one name one after the other, in the order in which they came, and tasks of different
 * names side by side. Commands on one key of one process so wait for each other instead of losing
 * races, and none starves: least of all a deletion behind a storm of renames.
 */
export function keyedMutex(): <T>(name: string, task: () => Promise<T>) => Promise<T> {
  const last = new Map<string, Promise<unknown>>();
  return async (name, task) => {
    const mine = (last.get(name) ?? Promise.resolve()).then(task, task);
    last.set(name, mine);
    try {
      return await mine;
    } finally {
      if (last.get(name) === mine) last.delete(name);
    }
  };
}
