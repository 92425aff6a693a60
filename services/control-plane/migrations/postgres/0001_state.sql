-- What is wanted and what became of it. The same tables as in migrations/sqlite; only the types of numbers that
-- count up by themselves, and of bytes, differ.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

CREATE TABLE resources (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The identifier in lower case: resources are found and compared by it.
    key TEXT NOT NULL UNIQUE,
    registry TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    modified_by TEXT NOT NULL,
    modified_ms BIGINT NOT NULL
);
CREATE INDEX resources_of_registry ON resources (registry, kind, seq);
CREATE INDEX resources_of_kind ON resources (kind, seq);

-- Identities of executions that ever were, and the newest generation of each: a fact of an execution that is gone
-- is told from a fact of one that was never here.
CREATE TABLE executions (
    id TEXT PRIMARY KEY,
    generation BIGINT NOT NULL
);

-- What changes while a run runs is small. What was asked for may be large, and is written once: run_requests.
CREATE TABLE runs (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    registry TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    execution TEXT NOT NULL,
    generation BIGINT NOT NULL,
    operation TEXT NOT NULL UNIQUE,
    -- The blob that was asked for.
    blob TEXT NOT NULL,
    -- What of the execution's parts the run is about, in JSON.
    view TEXT NOT NULL,
    parts BIGINT NOT NULL,
    state TEXT NOT NULL,
    -- 1 where the state is a terminal one.
    ended BIGINT NOT NULL,
    summary TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    started_ms BIGINT NOT NULL,
    finished_ms BIGINT,
    heard_ms BIGINT NOT NULL
);
CREATE INDEX runs_of_registry ON runs (registry, seq);
CREATE INDEX runs_of_execution ON runs (execution, generation);
CREATE INDEX runs_of_blob ON runs (blob, seq);
CREATE INDEX runs_unfinished ON runs (seq) WHERE ended = 0;

CREATE TABLE run_requests (
    run BIGINT PRIMARY KEY REFERENCES runs (seq) ON DELETE CASCADE,
    request TEXT NOT NULL
);

CREATE TABLE parts (
    execution TEXT NOT NULL,
    generation BIGINT NOT NULL,
    number BIGINT NOT NULL,
    stages TEXT NOT NULL,
    summary TEXT NOT NULL,
    PRIMARY KEY (execution, generation, number)
);

-- What became of each artifact of a part: large, and seldom written.
CREATE TABLE part_artifacts (
    execution TEXT NOT NULL,
    generation BIGINT NOT NULL,
    number BIGINT NOT NULL,
    artifacts TEXT NOT NULL,
    PRIMARY KEY (execution, generation, number)
);

CREATE TABLE outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution TEXT NOT NULL,
    generation BIGINT NOT NULL,
    -- 'start' or 'publish'; the rest is empty for a start.
    item TEXT NOT NULL,
    queue TEXT NOT NULL,
    message_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    headers TEXT NOT NULL,
    body BYTEA NOT NULL,
    due_ms BIGINT NOT NULL,
    attempts BIGINT NOT NULL
);
CREATE INDEX outbox_due ON outbox (due_ms, id);
CREATE INDEX outbox_of_execution ON outbox (execution, generation);

CREATE TABLE dead_letters (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The same letter is stored once, however often the broker delivers it.
    fingerprint TEXT NOT NULL UNIQUE,
    queue TEXT NOT NULL,
    message_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    execution TEXT,
    headers TEXT NOT NULL,
    body BYTEA NOT NULL,
    reason TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    requeued_ms BIGINT
);

CREATE TABLE seen_blobs (
    pipeline TEXT NOT NULL,
    blob TEXT COLLATE "C" NOT NULL,
    etag TEXT NOT NULL,
    length BIGINT NOT NULL,
    verdict TEXT NOT NULL,
    first_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    PRIMARY KEY (pipeline, blob)
);

CREATE TABLE import_claims (
    pipeline TEXT NOT NULL,
    blob_url TEXT NOT NULL,
    etag TEXT NOT NULL,
    run TEXT NOT NULL,
    PRIMARY KEY (pipeline, blob_url, etag)
);

CREATE TABLE tag_states (
    pipeline TEXT NOT NULL,
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    run TEXT NOT NULL,
    PRIMARY KEY (pipeline, repository, tag)
);

CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    until_ms BIGINT NOT NULL
);
