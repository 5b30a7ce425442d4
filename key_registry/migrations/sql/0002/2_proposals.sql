-- What leads are asked to sign may be several documents, which are signed together; and orders, which are no records.
ALTER TABLE witness.proposals
    ALTER COLUMN witness_id DROP NOT NULL,
    ADD COLUMN key_id bytea CHECK (octet_length(key_id) = 32),
    ADD COLUMN seq bigint CHECK (seq > 0),
    ADD COLUMN request bytea NOT NULL DEFAULT '',
    ADD COLUMN proposer bytea CHECK (octet_length(proposer) = 32),
    ADD COLUMN proposer_signature bytea CHECK (octet_length(proposer_signature) BETWEEN 1 AND 65535),
    ADD COLUMN facts bytea NOT NULL DEFAULT '{}',
    ADD COLUMN note text NOT NULL DEFAULT '' CHECK (octet_length(note) <= 1023),
    ADD CONSTRAINT proposer_signed CHECK ((proposer IS NULL) = (proposer_signature IS NULL)),
    DROP CONSTRAINT proposals_state_check,
    ADD CONSTRAINT proposals_state_check
        CHECK (state IN ('open', 'approved', 'done', 'expired', 'aborted', 'rejected', 'overtaken'));
ALTER TABLE witness.proposals ALTER COLUMN request DROP DEFAULT, ALTER COLUMN facts DROP DEFAULT;

CREATE TABLE witness.proposal_documents (
    proposal_id uuid NOT NULL REFERENCES witness.proposals,
    position smallint NOT NULL CHECK (position BETWEEN 0 AND 7),
    payload_type text NOT NULL CHECK (octet_length(payload_type) BETWEEN 1 AND 255),
    body bytea NOT NULL,
    key_id bytea CHECK (octet_length(key_id) = 32),
    signature bytea CHECK (octet_length(signature) BETWEEN 1 AND 65535),
    PRIMARY KEY (proposal_id, position),
    CONSTRAINT key_signed CHECK ((key_id IS NULL) = (signature IS NULL))
);
COMMENT ON TABLE witness.proposal_documents IS
    'What the leads sign to approve a proposal, in the order in which it takes effect; a lead signs all of them.';
COMMENT ON COLUMN witness.proposal_documents.key_id IS 'The key whose own signature the document needs as well.';
COMMENT ON COLUMN witness.proposal_documents.signature IS 'Signature of that key over the document: proof of possession.';

INSERT INTO witness.proposal_documents (proposal_id, position, payload_type, body, key_id, signature)
SELECT proposal_id, 0, 'application/vnd.witness-service.key-registry.v1+json', body,
    decode(convert_from(body, 'UTF8')::jsonb ->> 'key_id', 'hex'), possession
FROM witness.proposals;
-- An earlier release asked for one signature, which is not what this one carries out.
UPDATE witness.proposals SET state = 'aborted', finished_at = clock_timestamp(), note = 'made by an earlier release'
WHERE state IN ('open', 'approved');
ALTER TABLE witness.proposals DROP COLUMN body, DROP COLUMN possession;

DROP INDEX witness.one_at_a_time;
CREATE UNIQUE INDEX one_at_a_time ON witness.proposals ((true))
    WHERE state IN ('open', 'approved') AND kind NOT IN ('compromise', 'resume');
CREATE UNIQUE INDEX one_for_a_key ON witness.proposals (kind, key_id)
    WHERE state IN ('open', 'approved') AND kind IN ('compromise', 'resume');
CREATE INDEX unfinished ON witness.proposals (created_at, proposal_id) WHERE state IN ('open', 'approved');
CREATE INDEX newest ON witness.proposals (created_at DESC, proposal_id);
COMMENT ON TABLE witness.proposals IS
    'Changes that wait for the security leads. At most one is open or approved at a time, but for emergencies.';
COMMENT ON COLUMN witness.proposals.key_id IS 'The key it is about; NULL when it makes a key, or is about none.';
COMMENT ON COLUMN witness.proposals.seq IS 'Place in the registry of its first record; NULL when it makes none.';
COMMENT ON COLUMN witness.proposals.request IS 'What was asked for: canonical JSON, as its proposer signed it.';
COMMENT ON COLUMN witness.proposals.proposer IS 'The lead who signed the request; NULL when an operator made it.';
COMMENT ON COLUMN witness.proposals.facts IS 'What the service found out for the leads when it was made: canonical JSON.';
COMMENT ON COLUMN witness.proposals.note IS 'Why it is in its state, one sentence, where the state does not say it.';

ALTER TABLE witness.approvals
    ADD COLUMN position smallint NOT NULL DEFAULT 0 CHECK (position BETWEEN 0 AND 7),
    DROP CONSTRAINT approvals_pkey,
    ADD PRIMARY KEY (proposal_id, lead_key_id, position);
ALTER TABLE witness.approvals ALTER COLUMN position DROP DEFAULT;
COMMENT ON TABLE witness.approvals IS 'Signatures of security leads over the documents of a proposal, one by each over each.';

CREATE TABLE witness.rejections (
    proposal_id uuid NOT NULL REFERENCES witness.proposals,
    lead_key_id bytea NOT NULL CHECK (octet_length(lead_key_id) = 32),
    envelope bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (proposal_id, lead_key_id)
);
COMMENT ON TABLE witness.rejections IS 'Leads who said no to a proposal.';
COMMENT ON COLUMN witness.rejections.envelope IS 'The signed rejection: a DSSE envelope as JSON.';

CREATE TABLE witness.key_orders (
    key_id bytea NOT NULL CHECK (octet_length(key_id) = 32),
    number integer NOT NULL CHECK (number > 0),
    envelope bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (key_id, number)
);
COMMENT ON TABLE witness.key_orders IS
    'Orders of leads to stop a key, and to resume it: a key whose last order has an odd number is stopped.';
COMMENT ON COLUMN witness.key_orders.number IS 'Counted from 1 for each key: odd ones stop, even ones resume.';
COMMENT ON COLUMN witness.key_orders.envelope IS 'The signed order: a DSSE envelope as JSON.';

CREATE FUNCTION witness.check_key_order() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.number > 1 AND NOT EXISTS (
        SELECT FROM witness.key_orders AS before WHERE before.key_id = NEW.key_id AND before.number = NEW.number - 1
    ) THEN
        RAISE EXCEPTION 'expected order % of a key to follow order %, got a gap', NEW.number, NEW.number - 1
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION witness.check_key_order() IS 'Refuses an order that does not follow the last one about its key.';
CREATE TRIGGER follows AFTER INSERT ON witness.key_orders
    FOR EACH ROW EXECUTE FUNCTION witness.check_key_order();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON witness.key_orders
    FOR EACH STATEMENT EXECUTE FUNCTION witness.refuse_change();
ALTER TABLE witness.key_orders ENABLE ALWAYS TRIGGER follows, ENABLE ALWAYS TRIGGER append_only;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON witness.proposal_documents
    FOR EACH STATEMENT EXECUTE FUNCTION witness.refuse_change();
ALTER TABLE witness.proposal_documents ENABLE ALWAYS TRIGGER append_only;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON witness.approvals
    FOR EACH STATEMENT EXECUTE FUNCTION witness.refuse_change();
ALTER TABLE witness.approvals ENABLE ALWAYS TRIGGER append_only;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON witness.rejections
    FOR EACH STATEMENT EXECUTE FUNCTION witness.refuse_change();
ALTER TABLE witness.rejections ENABLE ALWAYS TRIGGER append_only;

REVOKE ALL ON FUNCTION witness.check_key_order() FROM PUBLIC;
GRANT SELECT ON witness.proposal_documents, witness.rejections, witness.key_orders TO witness_service, witness_auditor;
GRANT INSERT ON witness.proposal_documents, witness.rejections, witness.key_orders TO witness_service;
GRANT UPDATE (note) ON witness.proposals TO witness_service;
