CREATE TABLE node (
    name TEXT PRIMARY KEY,  -- 'draining'
    value TEXT              -- 'yes' or 'no'
) WITHOUT ROWID;

-- The workers that are not forgotten. worker_status shows the same for people.
CREATE TABLE worker (
    worker_id TEXT PRIMARY KEY, -- decimal
    name TEXT,                  -- of the job, for people
    job TEXT,
    pipeline TEXT,              -- NULL: the controller sends none
    generation,
    slots,
    dialect TEXT,               -- how the end is reported: '0.15' or '0.16'
    start_key TEXT,             -- the caller's name for the StartWorker, if it gave one
    admitted_at,                -- microseconds since 1970, UTC
    pid INTEGER,                -- NULL: the program did not run yet
    start_time,                 -- clock ticks since boot, as in /proc/PID/stat
    boot_id TEXT,               -- under which the worker was admitted
    stopping INTEGER,           -- 1: it has been told to end
    kill_at,                    -- nanoseconds since boot; NULL: it is not going to be killed
    exit TEXT,                  -- 'code', 'signal', 'oom', 'lost', 'unknown'; NULL: it is alive
    exit_value INTEGER,         -- the code or the signal
    ended_at,                   -- microseconds since 1970, UTC
    reported_at,                -- when the controller acknowledged the end; NULL: not yet
    checksum INTEGER            -- of all of the above: rows altered by hand are rejected
) WITHOUT ROWID;

-- Rows of worker that made no sense when an agent started, as they were.
CREATE TABLE rejected (
    rejected_at, reason TEXT,
    worker_id, name, job, pipeline, generation, slots, dialect, start_key, admitted_at, pid,
    start_time, boot_id, stopping, kill_at, exit, exit_value, ended_at, reported_at, checksum
);

CREATE VIEW worker_status AS
SELECT
    worker_id, name, job, pipeline, generation, slots,
    CASE
        WHEN reported_at IS NOT NULL THEN 'reported'
        WHEN exit IS NOT NULL THEN 'exited'
        WHEN pid IS NULL THEN 'starting'
        WHEN stopping THEN 'stopping'
        ELSE 'running'
    END AS state,
    pid,
    CASE exit
        WHEN 'code' THEN 'code ' || exit_value
        WHEN 'signal' THEN 'signal ' || exit_value
        WHEN 'oom' THEN 'out of memory'
        ELSE exit
    END AS exit,
    strftime('%Y-%m-%dT%H:%M:%fZ', admitted_at / 1e6, 'unixepoch') AS admitted,
    strftime('%Y-%m-%dT%H:%M:%fZ', ended_at / 1e6, 'unixepoch') AS ended,
    strftime('%Y-%m-%dT%H:%M:%fZ', reported_at / 1e6, 'unixepoch') AS reported
FROM worker;

-- The workers whose end the controller does not know yet.
CREATE VIEW owed_report AS SELECT * FROM worker_status WHERE state = 'exited';
