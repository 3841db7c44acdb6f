import { createRequire } from 'node:module';

/**
 * EventStoreDB compresses each response for a client that accepts compression, and grpc-js inflates each message in a
 * zlib call of its own, which takes most of the time of reading the log. grpc-js has no setting for the accepted
 * encodings, so this patches its compression filter to accept only `identity`, for the whole process, in which the
 * client of EventStoreDB is the only user of gRPC.
 */

const ACCEPTED = 'grpc-accept-encoding';

type Headers = { get(name: string): unknown[]; set(name: string, value: string): void };
type Filter = { sendMetadata(headers: Promise<Headers>): Promise<Headers> };
export type Grpc = {
  CompressionFilter: { new (options: object, shared: object): Filter; prototype: Filter };
  Metadata: new () => Headers;
};

/** Leaves a grpc-js that is not as expected unchanged, and warns. */
export async function disableGrpcCompression(
  warn: (message: string) => void,
  load: () => Grpc = loadClientGrpc,
): Promise<void> {
  try {
    const { CompressionFilter, Metadata } = load();
    const { prototype } = CompressionFilter;
    const send = prototype.sendMetadata;
    const headers = await new CompressionFilter({}, {}).sendMetadata(Promise.resolve(new Metadata()));
    const [accepted] = headers.get(ACCEPTED);
    if (accepted === 'identity') return;
    if (!String(accepted).includes('identity')) throw new Error(`it sends ${ACCEPTED}: ${accepted}`);
    prototype.sendMetadata = async function (this: Filter, metadata) {
      const sent = await send.call(this, metadata);
      sent.set(ACCEPTED, 'identity');
      return sent;
    };
  } catch (error) {
    warn(
      `This grpc-js is not as expected (${(error as Error).message}): answers of EventStoreDB stay compressed, and reading the log is several times slower`,
    );
  }
}

/** The modules of the grpc-js that the client of EventStoreDB uses, wherever it is installed. */
function loadClientGrpc(): Grpc {
  const client = createRequire(createRequire(import.meta.url).resolve('@eventstore/db-client'));
  return {
    ...client('@grpc/grpc-js/build/src/compression-filter'),
    Metadata: client('@grpc/grpc-js').Metadata,
  };
}
