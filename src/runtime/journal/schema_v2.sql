-- Rows written before have NULL in the new columns, and their checksums stay right: NULL in one of
-- these adds nothing.
ALTER TABLE worker ADD COLUMN abandoned_at; -- nanoseconds since boot; NULL: the controller knows it
ALTER TABLE worker ADD COLUMN end_sequence; -- the order in which workers ended; NULL: before all others

ALTER TABLE rejected ADD COLUMN abandoned_at;
ALTER TABLE rejected ADD COLUMN end_sequence;

-- node also has 'known_at': when the controller last knew this node, in nanoseconds since boot, and
-- under which boot.

DROP VIEW owed_report;
DROP VIEW worker_status;

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
    exit IS NULL AND abandoned_at IS NOT NULL AS abandoned,
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

-- The workers whose end the controller does not know yet, in the order in which they ended.
CREATE VIEW owed_report AS
SELECT worker_status.* FROM worker_status JOIN worker USING (worker_id)
WHERE state = 'exited' ORDER BY coalesce(end_sequence, 0);
