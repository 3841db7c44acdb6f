/**
 * Runs tasks of one name in order of arrival, one at a time, and tasks of different names concurrently: commands on one
 * stream queue within a process instead of losing races, so that many renames do not starve a deletion.
 */
export function keyedMutex(): <T>(name: string, task: () => Promise<T>) => Promise<T> {
  const last = new Map<string, Promise<unknown>>();
  return async (name, task) => {
    const current = (last.get(name) ?? Promise.resolve()).then(task, task);
    last.set(name, current);
    try {
      return await current;
    } finally {
      if (last.get(name) === current) last.delete(name);
    }
  };
}
