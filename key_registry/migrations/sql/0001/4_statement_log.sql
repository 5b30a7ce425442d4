CREATE TABLE witness.claims (
    claim_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream_id integer NOT NULL,
    sequence bigint NOT NULL,
    witness_id text NOT NULL CHECK (octet_length(witness_id) BETWEEN 1 AND 255),
    key_id bytea NOT NULL CHECK (octet_length(key_id) = 32),
    statement bytea NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (stream_id, sequence, witness_id),
    FOREIGN KEY (stream_id, sequence) REFERENCES witness.places
);
COMMENT ON TABLE witness.claims IS
    'Statements a witness has bound itself to sign, before it signs: at most one by each witness at each place.';
COMMENT ON COLUMN witness.claims.statement IS 'The exact statement bytes. They are signed as they stand, whatever happens.';
COMMENT ON COLUMN witness.claims.key_id IS 'SHA-256 of the DER SubjectPublicKeyInfo of the key that signs.';

CREATE TABLE witness.seals (
    size bigint PRIMARY KEY,
    previous_size bigint NOT NULL UNIQUE CHECK (previous_size >= 0),
    root bytea NOT NULL CHECK (octet_length(root) = 32),
    sealed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (size > previous_size)
);
COMMENT ON TABLE witness.seals IS 'Every head the statement log ever had; each continues the one before it, so the log never forks.';
COMMENT ON COLUMN witness.seals.size IS 'Number of leaves.';
COMMENT ON COLUMN witness.seals.root IS 'RFC 9162 root hash over so many leaves.';

CREATE TABLE witness.attestations (
    leaf_index bigint PRIMARY KEY CHECK (leaf_index >= 0),
    claim_id bigint NOT NULL UNIQUE REFERENCES witness.claims,
    signature bytea NOT NULL CHECK (octet_length(signature) BETWEEN 1 AND 65535),
    leaf_hash bytea NOT NULL CHECK (octet_length(leaf_hash) = 32)
);
COMMENT ON TABLE witness.attestations IS 'The statement log: one leaf for each signed claim, contiguous from 0.';
COMMENT ON COLUMN witness.attestations.leaf_hash IS 'RFC 9162 leaf hash of the log entry.';

CREATE TABLE witness.tiles (
    level smallint NOT NULL CHECK (level BETWEEN 0 AND 7),
    tile_index bigint NOT NULL CHECK (tile_index >= 0),
    root bytea NOT NULL CHECK (octet_length(root) = 32),
    hashes bytea NOT NULL CHECK (octet_length(hashes) = 8192),
    PRIMARY KEY (level, tile_index)
);
COMMENT ON TABLE witness.tiles IS 'Full tiles of the statement log (C2SP tlog-tiles, height 8).';
COMMENT ON COLUMN witness.tiles.root IS 'RFC 9162 root over the 256 hashes: the hash at tile_index of the level above.';

-- A head is written first and its leaves after it, in one transaction: the leaves must fill the head's run exactly,
-- and at commit the run must be filled. By induction leaf indices are contiguous and every head counts its leaves.
CREATE FUNCTION witness.check_seal() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.previous_size > 0 AND NOT EXISTS (
        SELECT FROM witness.seals AS before WHERE before.size = NEW.previous_size
    ) THEN
        RAISE EXCEPTION 'expected head % to continue an earlier one, got none of size %', NEW.size, NEW.previous_size
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NOT EXISTS (SELECT FROM witness.attestations AS leaf WHERE leaf.leaf_index = NEW.size - 1) THEN
        RAISE EXCEPTION 'expected head % to have % leaves at commit, got fewer', NEW.size, NEW.size
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION witness.check_seal() IS 'Refuses a head that continues no other, or lacks leaves at commit.';

CREATE FUNCTION witness.check_attestations() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    run record;
BEGIN
    SELECT min(leaf_index) AS first, max(leaf_index) AS last, count(*) AS leaves INTO run FROM inserted;
    IF run.leaves > 0 AND (run.last - run.first + 1 <> run.leaves OR NOT EXISTS (
        SELECT FROM witness.seals AS head WHERE head.size = run.last + 1 AND head.previous_size = run.first
    )) THEN
        RAISE EXCEPTION 'expected leaves % to % to fill the run of a new head, got a gap or no such head', run.first, run.last
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION witness.check_attestations() IS 'Refuses leaves that do not fill the run of a head of the same transaction.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON witness.claims
    FOR EACH STATEMENT EXECUTE FUNCTION witness.refuse_change();
ALTER TABLE witness.claims ENABLE ALWAYS TRIGGER append_only;

CREATE CONSTRAINT TRIGGER continues AFTER INSERT ON witness.seals DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION witness.check_seal();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON witness.seals
    FOR EACH STATEMENT EXECUTE FUNCTION witness.refuse_change();
ALTER TABLE witness.seals ENABLE ALWAYS TRIGGER continues, ENABLE ALWAYS TRIGGER append_only;

CREATE TRIGGER contiguous AFTER INSERT ON witness.attestations REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION witness.check_attestations();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON witness.attestations
    FOR EACH STATEMENT EXECUTE FUNCTION witness.refuse_change();
ALTER TABLE witness.attestations ENABLE ALWAYS TRIGGER contiguous, ENABLE ALWAYS TRIGGER append_only;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON witness.tiles
    FOR EACH STATEMENT EXECUTE FUNCTION witness.refuse_change();
ALTER TABLE witness.tiles ENABLE ALWAYS TRIGGER append_only;
