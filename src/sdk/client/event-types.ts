/** Event of the feed: a CloudEvent (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md). */
export type KeyledgerEvent = {
  readonly specversion: '1.0';
  /** Unique together with `source`. */
  readonly id: string;
  /** The log, as a URN. */
  readonly source: string;
  /** `ApiKeyCreated`, `ApiKeyDeleted`, …: see docs/reference/events.md. Later versions may add types. */
  readonly type: string;
  /** Id of the API key or webhook that the event belongs to. */
  readonly subject?: string;
  /** When the event occurred: RFC 3339, UTC. */
  readonly time: string;
  readonly datacontenttype: 'application/json';
  /** Resume token: the event's place in the log and its id. As `after` it resumes right after this event. */
  readonly position: string;
  /** Fields of the event's type, besides those that every event has. */
  readonly data: {
    readonly repoId: string;
    /** Number of the event among those of its API key or webhook, from 0. */
    readonly revision: number;
    /** Reason why the service cannot read the event; then nothing else about it is known. */
    readonly unreadable?: string;
    readonly [field: string]: unknown;
  };
};
