CREATE TABLE witness.registry_records (
    seq bigint PRIMARY KEY CHECK (seq >= 0),
    envelope bytea NOT NULL,
    record_hash bytea NOT NULL UNIQUE CHECK (octet_length(record_hash) = 32),
    previous_hash bytea UNIQUE CHECK (octet_length(previous_hash) = 32),
    leaf_hash bytea NOT NULL CHECK (octet_length(leaf_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT only_the_genesis_has_no_previous CHECK ((seq = 0) = (previous_hash IS NULL))
);
COMMENT ON TABLE witness.registry_records IS 'The registry log: every key record, contiguous from 0, each naming the one before it.';
COMMENT ON COLUMN witness.registry_records.seq IS 'Leaf index in the registry log, and the seq of the record.';
COMMENT ON COLUMN witness.registry_records.envelope IS 'DSSE envelope, JSON bytes.';
COMMENT ON COLUMN witness.registry_records.record_hash IS 'SHA-256 of the record''s pre-authentication encoding.';
COMMENT ON COLUMN witness.registry_records.previous_hash IS 'record_hash of record seq - 1; NULL for the genesis record.';
COMMENT ON COLUMN witness.registry_records.leaf_hash IS 'RFC 9162 leaf hash of the log entry.';

CREATE FUNCTION witness.check_registry_record() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.seq > 0 AND NOT EXISTS (
        SELECT FROM witness.registry_records AS before
        WHERE before.seq = NEW.seq - 1 AND before.record_hash = NEW.previous_hash
    ) THEN
        RAISE EXCEPTION 'expected record % to follow record %, got a gap or another previous hash', NEW.seq, NEW.seq - 1
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION witness.check_registry_record() IS 'Refuses a record that does not follow the record before it.';

CREATE TRIGGER follows AFTER INSERT ON witness.registry_records
    FOR EACH ROW EXECUTE FUNCTION witness.check_registry_record();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON witness.registry_records
    FOR EACH STATEMENT EXECUTE FUNCTION witness.refuse_change();
ALTER TABLE witness.registry_records ENABLE ALWAYS TRIGGER follows, ENABLE ALWAYS TRIGGER append_only;

CREATE TABLE witness.checkpoints (
    log text NOT NULL CHECK (log IN ('registry', 'statements')),
    size bigint NOT NULL CHECK (size >= 0),
    note bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (log, size)
);
COMMENT ON TABLE witness.checkpoints IS 'Signed checkpoints of both logs (C2SP tlog-checkpoint), at most one for each size.';
COMMENT ON COLUMN witness.checkpoints.note IS 'The signed note, as bytes.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON witness.checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION witness.refuse_change();
ALTER TABLE witness.checkpoints ENABLE ALWAYS TRIGGER append_only;
