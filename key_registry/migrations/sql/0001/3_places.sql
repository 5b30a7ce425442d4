CREATE TABLE witness.streams (
    stream_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (octet_length(name) BETWEEN 1 AND 255),
    link_rule text NOT NULL CHECK (link_rule IN ('witnessed', 'recorded', 'none')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE witness.streams IS 'The event logs that events belong to.';
COMMENT ON COLUMN witness.streams.link_rule IS
    'witnessed: previous_event_hash is the hash witnessed before; recorded: kept, not compared; none: absent.';

CREATE TABLE witness.places (
    stream_id integer NOT NULL REFERENCES witness.streams,
    sequence bigint NOT NULL CHECK (sequence >= 0),
    starts boolean NOT NULL,
    -- The length apart from the pattern: {64} in it costs six times as much.
    event_hash text NOT NULL CHECK (
        octet_length(event_hash) = 71 AND event_hash ~ '^(?:sha256|blake3):[0-9a-f]*$'),
    previous_event_hash text CHECK (
        octet_length(previous_event_hash) = 71 AND previous_event_hash ~ '^(?:sha256|blake3):[0-9a-f]*$'),
    PRIMARY KEY (stream_id, sequence)
);
CREATE UNIQUE INDEX one_start ON witness.places (stream_id) WHERE starts;
COMMENT ON TABLE witness.places IS
    'What stands at each place of a stream: one hash for ever. Contiguous from the first sequence seen.';
COMMENT ON COLUMN witness.places.starts IS
    'The first place of its stream. There is one, so nothing can be put before it or beside it, not even in a race.';

-- The planner settings keep it at index look-ups: a session caches the plan, perhaps made while the table was small.
CREATE FUNCTION witness.check_places() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    wrong record;
BEGIN
    SELECT place.stream_id, place.sequence, before.sequence IS NULL AND NOT place.starts AS gap INTO wrong
    FROM inserted AS place
    JOIN witness.streams AS stream ON stream.stream_id = place.stream_id
    LEFT JOIN witness.places AS before ON before.stream_id = place.stream_id AND before.sequence = place.sequence - 1
    WHERE (before.sequence IS NULL AND NOT place.starts)
        OR (stream.link_rule = 'none' AND place.previous_event_hash IS NOT NULL)
        OR (stream.link_rule = 'witnessed' AND before.event_hash <> coalesce(place.previous_event_hash, ''))
    ORDER BY place.stream_id, place.sequence
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'expected sequence % of stream % to continue the stream, got %', wrong.sequence, wrong.stream_id,
            CASE WHEN wrong.gap THEN 'a gap' ELSE 'a previous hash that its link rule forbids' END
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION witness.check_places() IS 'Refuses gaps and broken links.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON witness.streams
    FOR EACH STATEMENT EXECUTE FUNCTION witness.refuse_change();
ALTER TABLE witness.streams ENABLE ALWAYS TRIGGER append_only;

CREATE TRIGGER continues AFTER INSERT ON witness.places REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION witness.check_places();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON witness.places
    FOR EACH STATEMENT EXECUTE FUNCTION witness.refuse_change();
ALTER TABLE witness.places ENABLE ALWAYS TRIGGER continues, ENABLE ALWAYS TRIGGER append_only;
