-- The owner migrates, the service works, the auditor reads. PUBLIC gets nothing.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA witness FROM PUBLIC;
GRANT USAGE ON SCHEMA witness TO witness_service, witness_auditor;
GRANT SELECT ON ALL TABLES IN SCHEMA witness TO witness_service, witness_auditor;

GRANT INSERT ON witness.registry_records, witness.checkpoints, witness.streams, witness.places, witness.claims,
    witness.seals, witness.attestations, witness.tiles TO witness_service;

GRANT INSERT, DELETE ON witness.unsealed TO witness_service;
GRANT INSERT, UPDATE ON witness.key_counts TO witness_service;
GRANT INSERT, UPDATE (state, finished_at) ON witness.proposals TO witness_service;
GRANT INSERT ON witness.approvals TO witness_service;
