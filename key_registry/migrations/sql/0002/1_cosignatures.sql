CREATE TABLE witness.cosignatures (
    log text NOT NULL,
    size bigint NOT NULL,
    cosigner_id bytea NOT NULL CHECK (octet_length(cosigner_id) = 32),
    cosigned_at bigint NOT NULL CHECK (cosigned_at BETWEEN 0 AND 253402300799),
    line text NOT NULL CHECK (octet_length(line) BETWEEN 1 AND 4096),
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (log, cosigner_id, size, cosigned_at),
    FOREIGN KEY (log, size) REFERENCES witness.checkpoints
);
CREATE INDEX cosigned_sizes ON witness.cosignatures (log, size);
COMMENT ON TABLE witness.cosignatures IS
    'Verified answers of cosigners (C2SP tlog-cosignature), one row for each answer: a heartbeat adds rows for its size.';
COMMENT ON COLUMN witness.cosignatures.cosigner_id IS
    'SHA-256 of the key name, a newline, 0x04 and the public key; its first 4 bytes are the key hash in the line.';
COMMENT ON COLUMN witness.cosignatures.cosigned_at IS 'The time the cosigner signed, POSIX seconds by its own clock.';
COMMENT ON COLUMN witness.cosignatures.line IS 'The note signature line, with its newline.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON witness.cosignatures
    FOR EACH STATEMENT EXECUTE FUNCTION witness.refuse_change();
ALTER TABLE witness.cosignatures ENABLE ALWAYS TRIGGER append_only;

CREATE TABLE witness.timestamps (
    log text NOT NULL DEFAULT 'statements' CHECK (log = 'statements'),
    size bigint NOT NULL,
    token bytea NOT NULL CHECK (octet_length(token) BETWEEN 1 AND 65536),
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (log, size),
    FOREIGN KEY (log, size) REFERENCES witness.checkpoints
);
COMMENT ON TABLE witness.timestamps IS 'Timestamp tokens (RFC 3161) over the text of statement-log checkpoints.';
COMMENT ON COLUMN witness.timestamps.token IS 'DER, as the timestamp authority gave it; whom to trust is the auditor''s choice.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON witness.timestamps
    FOR EACH STATEMENT EXECUTE FUNCTION witness.refuse_change();
ALTER TABLE witness.timestamps ENABLE ALWAYS TRIGGER append_only;

GRANT SELECT ON witness.cosignatures, witness.timestamps TO witness_service, witness_auditor;
GRANT INSERT ON witness.cosignatures, witness.timestamps TO witness_service;
