-- What is looked for when a run is deleted, and when runs have been over for long.
CREATE INDEX tag_states_of_run ON tag_states (run);
CREATE INDEX runs_over ON runs (finished_ms) WHERE ended = 1;
