-- Who may log in to the stack's database. Runs at each `docker compose up`, as the superuser and before the migration, so
-- a changed SLOW_QUERY_MS or password counts at once. The application's login is the one that development has.
\getenv slow_query_ms SLOW_QUERY_MS
\ir cluster.sql
\getenv tasks_password DATABASE_PASSWORD
\getenv exporter_password EXPORTER_PASSWORD

ALTER ROLE tasks PASSWORD :'tasks_password';

SELECT 'CREATE ROLE exporter' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'exporter') \gexec
ALTER ROLE exporter LOGIN NOSUPERUSER NOBYPASSRLS CONNECTION LIMIT 5 PASSWORD :'exporter_password';
GRANT pg_monitor TO exporter;
