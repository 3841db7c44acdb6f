import { EventStoreDBClient } from '@eventstore/db-client';

type Credentials = { readonly username: string; readonly password: string };

/** A client, and the options of its calls. */
export type Connection = {
  readonly client: EventStoreDBClient;
  /** Hosts and settings, without credentials. */
  readonly address: string;
  /** The hosts of the URL; esdb+discover:// may find more. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly tls: boolean;
  /** For reads and subscriptions; empty if the URL has no user. */
  readonly credentials: { readonly credentials?: Credentials };
  /**
   * For appends. With credentials of its own, each append is a call of its own. Without, the client sends all appends
   * of the process through one call with one table of pending promises: a broken connection rejects those of other
   * connections too, a late response then ends the process with a TypeError outside any promise, and no deadline is
   * kept. An insecure connection sends no credentials, so placeholders do. Only TLS without a user still uses the
   * table.
   */
  readonly appendCredentials: { readonly credentials?: Credentials };
  /** Creates a client that sends its appends through that one call, in order; the caller disposes of it. */
  readonly connectForBatches: () => EventStoreDBClient;
};

const SHAPE = /^(esdb(?:\+discover)?:\/\/)(?:([^@]*)@)?([^@/?][^@]*)$/s;
/** Settings for which the client prints no warning; a warning would contain the URL. */
const QUIET_SETTING =
  /^(?:tls|tlsCAFile|userCertFile|userKeyFile|nodePreference|defaultDeadline|connectionName|maxDiscoverAttempts|discoveryInterval|gossipTimeout|keepAliveInterval|keepAliveTimeout)=/i;
const PLACEHOLDER_CREDENTIALS: Credentials = { username: 'nobody', password: 'nothing' };

export const isEventStoreDbUrl = (url: string): boolean => SHAPE.test(url);

/**
 * A client for `esdb://[user:password@]host:port[,host:port]?…` or `esdb+discover://…`, which connects at first use.
 * The client gets the URL without user and password, because it prints the URL in warnings.
 * @throws Error the URL is not valid; the message contains no credentials
 */
export function connectEventStoreDb(url: string): Connection {
  const [, scheme, userInfo, rest] = SHAPE.exec(url) ?? [];
  if (!scheme || !rest) {
    throw new Error(
      'This is not a URL of EventStoreDB, esdb://[user:password@]host:port?settings, with @ in the password as %40',
    );
  }
  if (/[?&]throwOnAppendFailure=false/i.test(rest)) {
    throw new Error('The URL of EventStoreDB must not set throwOnAppendFailure: it is how conflicts are detected');
  }
  const named = userInfo === undefined ? undefined : parseCredentials(userInfo);
  const credentials = named ? { credentials: named } : {};
  const insecure = /[?&]tls=false(?:&|$)/i.test(rest);
  return {
    client: createClient(scheme + rest),
    address: scheme + rest,
    hosts: parseHosts(rest),
    tls: !insecure,
    credentials,
    appendCredentials: insecure && !named ? { credentials: PLACEHOLDER_CREDENTIALS } : credentials,
    connectForBatches: () => createClient(named ? withCredentials(scheme, named, rest) : scheme + rest),
  };
}

/** A call with credentials of its own is not batched, so they must be in the URL, which nothing prints here. */
function withCredentials(scheme: string, { username, password }: Credentials, rest: string): string {
  const [hosts = '', settings = ''] = rest.split('?');
  const quiet = settings.split('&').filter((setting) => QUIET_SETTING.test(setting));
  const user = [username, password].map(encodeURIComponent).join(':');
  return `${scheme}${user}@${hosts}${quiet.length > 0 ? `?${quiet.join('&')}` : ''}`;
}

const DEFAULT_PORT = 2113;

function parseHosts(rest: string): Connection['hosts'] {
  const [hosts = ''] = rest.split(/[/?]/);
  return hosts.split(',').map((text) => {
    const [, host = '', port] = /^\[?(.*?)\]?(?::(\d+))?$/.exec(text) ?? [];
    return { host, port: Number(port ?? DEFAULT_PORT) };
  });
}

/** @param connectionString with credentials only if it was valid without them: an error prints it */
function createClient(connectionString: string): EventStoreDBClient {
  try {
    return EventStoreDBClient.connectionString(connectionString);
  } catch (error) {
    throw new Error(`The URL of EventStoreDB ${connectionString} cannot be used: ${(error as Error).message}`);
  }
}

function parseCredentials(userInfo: string): Credentials {
  const [, username, password] = /^([^:]+):(.*)$/s.exec(userInfo) ?? [];
  try {
    if (username && password) {
      return { username: decodeURIComponent(username), password: decodeURIComponent(password) };
    }
  } catch {
    // A stray %: reported below, without the text itself.
  }
  throw new Error('The credentials in the URL of EventStoreDB must be user:password, percent-encoded');
}
