import { EventStoreDBClient } from '@eventstore/db-client';

type Credentials = { readonly username: string; readonly password: string };

/** A client, and what each of its calls is given. */
export type Connection = {
  readonly client: EventStoreDBClient;
  /** Without a user's name: host and settings. */
  readonly address: string;
  /** Of the URL; with esdb+discover:// more may be found. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly tls: boolean;
  /** For reads and subscriptions; undefined if the URL names nobody. */
  readonly credentials: { readonly credentials?: Credentials };
  /**
   * For appends. With credentials of its own an append is a call of its own. Without them the client
   * sends all appends of the process through one call and keeps who waits for them in one table: when
   * a connection breaks, those of another one are rejected too, an answer that comes late after that
   * ends the process with a TypeError outside of any promise, and no deadline is kept. An insecure
   * connection sends no credentials, so there any will do. Only TLS without a user is left with the table.
   */
  readonly appendCredentials: { readonly credentials?: Credentials };
  /** A client whose appends go through that one call, which keeps their order; the caller disposes of it. */
  readonly connectForBatches: () => EventStoreDBClient;
};

const SHAPE = /^(esdb(?:\+discover)?:\/\/)(?:([^@]*)@)?([^@/?][^@]*)$/s;
/** Settings for which the client prints no warning: with one it would print the URL. */
const QUIET_SETTING =
  /^(?:tls|tlsCAFile|userCertFile|userKeyFile|nodePreference|defaultDeadline|connectionName|maxDiscoverAttempts|discoveryInterval|gossipTimeout|keepAliveInterval|keepAliveTimeout)=/i;
const PLACEHOLDER_CREDENTIALS: Credentials = { username: 'nobody', password: 'nothing' };

export const isEventStoreDbUrl = (url: string): boolean => SHAPE.test(url);

/**
 * A client for `esdb://[user:password@]host:port[,host:port]?…` or `esdb+discover://…`. It connects when
 * it is used first. The client itself is not shown user and password, because it writes the URL into
 * warnings about it.
 * @throws Error no connection string; the message holds nothing of the credentials
 */
export function connectEventStoreDb(url: string): Connection {
  const [, scheme, userInfo, rest] = SHAPE.exec(url) ?? [];
  if (!scheme || !rest) {
    throw new Error(
      'This is no URL of EventStoreDB, esdb://[user:password@]host:port?settings, with @ in the password as %40',
    );
  }
  if (/[?&]throwOnAppendFailure=false/i.test(rest)) {
    throw new Error('The URL of EventStoreDB must not set throwOnAppendFailure: conflicts are found by it');
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

/** A call with credentials of its own is no batched one: here they must be in the URL, where nothing prints it. */
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

/** @param connectionString with credentials only if it was taken without them before: an error would print it */
function createClient(connectionString: string): EventStoreDBClient {
  try {
    return EventStoreDBClient.connectionString(connectionString);
  } catch (error) {
    throw new Error(
      `The URL of EventStoreDB ${connectionString} cannot be used: ${(error as Error).message}`,
    );
  }
}

function parseCredentials(userInfo: string): Credentials {
  const [, username, password] = /^([^:]+):(.*)$/s.exec(userInfo) ?? [];
  try {
    if (username && password) {
      return { username: decodeURIComponent(username), password: decodeURIComponent(password) };
    }
  } catch {
    // A stray %: said below, without the text itself.
  }
  throw new Error('The credentials in the URL of EventStoreDB must be user:password, percent-encoded');
}
