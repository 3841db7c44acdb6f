/** Promise with its resolve and reject functions. */
export function deferred() {
  let resolve: () => void = () => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  // An unhandled rejection must not end the process.
  promise.catch(() => undefined);
  return { promise, resolve, reject };
}
