-- No foreign key and no index by key: each row is written and deleted within milliseconds, in the same statement as its
-- claim and the same transaction as its attestation, and there are never many.
CREATE TABLE witness.unsealed (
    claim_id bigint PRIMARY KEY,
    key_id bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
COMMENT ON TABLE witness.unsealed IS 'Claims without an attestation. Whoever deletes the row seals the claim, in the same transaction.';

CREATE TABLE witness.key_counts (
    key_id bytea PRIMARY KEY CHECK (octet_length(key_id) = 32),
    signed bigint NOT NULL CHECK (signed > 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE witness.key_counts IS 'Attestations by each key; raised in the transaction that seals them.';

CREATE TABLE witness.proposals (
    proposal_id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (octet_length(kind) BETWEEN 1 AND 255),
    witness_id text NOT NULL CHECK (octet_length(witness_id) BETWEEN 1 AND 255),
    replaces bytea CHECK (octet_length(replaces) = 32),
    body bytea NOT NULL,
    possession bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'approved', 'done', 'expired', 'aborted')),
    finished_at timestamptz,
    CONSTRAINT finished_has_a_time CHECK ((state IN ('open', 'approved')) = (finished_at IS NULL))
);
CREATE UNIQUE INDEX one_at_a_time ON witness.proposals ((true)) WHERE state IN ('open', 'approved');
COMMENT ON TABLE witness.proposals IS 'Key records that wait for the security leads; at most one is open or approved at a time.';
COMMENT ON COLUMN witness.proposals.replaces IS 'The key that the new one takes over from; NULL when it joins or starts a witness.';
COMMENT ON COLUMN witness.proposals.body IS 'The record body that the leads sign.';
COMMENT ON COLUMN witness.proposals.possession IS 'Signature of the new key over the body: proof of possession.';

CREATE FUNCTION witness.check_proposal() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.state NOT IN ('open', 'approved') OR NEW.state = 'open' THEN
        RAISE EXCEPTION 'expected a proposal to go from open to approved to an end, got % to %', OLD.state, NEW.state
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION witness.check_proposal() IS 'Refuses to reopen a proposal.';
CREATE TRIGGER never_reopens BEFORE UPDATE ON witness.proposals
    FOR EACH ROW EXECUTE FUNCTION witness.check_proposal();
ALTER TABLE witness.proposals ENABLE ALWAYS TRIGGER never_reopens;

CREATE TABLE witness.approvals (
    proposal_id uuid NOT NULL REFERENCES witness.proposals,
    lead_key_id bytea NOT NULL CHECK (octet_length(lead_key_id) = 32),
    signature bytea NOT NULL CHECK (octet_length(signature) BETWEEN 1 AND 65535),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (proposal_id, lead_key_id)
);
COMMENT ON TABLE witness.approvals IS 'Signatures of security leads over the body of a proposal, one by each.';
