-- Deployments of templates, as they ended, by their identifiers in lower case.
CREATE TABLE deployments (
    key TEXT PRIMARY KEY,
    body TEXT NOT NULL
);
