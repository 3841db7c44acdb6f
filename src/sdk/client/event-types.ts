/** An event of the feed: a CloudEvent (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md). */
export type KeyledgerEvent = {
  readonly specversion: '1.0';
  /** With `source` unique. */
  readonly id: string;
  /** The log, as a URN. */
  readonly source: string;
  /** `ApiKeyCreated`, `ApiKeyDeleted`, …: docs/reference/events.md has them all. There may be more of them one day. */
  readonly type: string;
  /** Id of the API key or webhook that it is about. */
  readonly subject?: string;
  /** When it occurred: RFC 3339, UTC. */
  readonly time: string;
  readonly datacontenttype: 'application/json';
  /** Where it is in the log, and which event that is: as `after` it resumes right behind this event. */
  readonly position: string;
  /** What the type says, beside what every event has. */
  readonly data: {
    readonly repoId: string;
    /** Which one it is of the events of its API key or webhook, from 0 on. */
    readonly revision: number;
    /** Why the service cannot read the event. Nothing is known then but that something happened. */
    readonly unreadable?: string;
    readonly [said: string]: unknown;
  };
};
