-- What the tables of record have in common. Functions name every table with its schema and look up the rest in
-- pg_catalog, so that no search_path of a session can lead them elsewhere.

COMMENT ON SCHEMA witness IS
    'Witness service: the registry log, the statement log, and what is being worked on. Tables of record only grow.';

CREATE FUNCTION witness.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'expected only INSERT on witness.%, got %: it is a table of record', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation',
              HINT = 'What is recorded stays. A wrong record is answered by a new one.';
END
$$;
COMMENT ON FUNCTION witness.refuse_change() IS 'Refuses UPDATE, DELETE and TRUNCATE of a table of record.';
