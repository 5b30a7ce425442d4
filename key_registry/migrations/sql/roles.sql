-- The three roles. Cluster-wide, so run once per cluster by a superuser; running it again changes nothing.
-- Two runs at the same time are safe: who comes second finds the role made.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['witness_owner', 'witness_service', 'witness_auditor'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) THEN
                EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION', name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END
$$;
