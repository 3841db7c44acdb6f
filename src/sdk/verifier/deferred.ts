/** A promise that is settled from outside. */
export function deferred() {
  let resolve: () => void = () => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  // A rejection that nobody waits for must not end the process.
  promise.catch(() => undefined);
  return { promise, resolve, reject };
}
