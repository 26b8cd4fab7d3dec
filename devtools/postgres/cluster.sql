-- The application's login and database. psql runs this at every start, so it creates only what is missing.
SELECT 'CREATE ROLE tasks' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tasks') \gexec
ALTER ROLE tasks LOGIN CREATEROLE NOSUPERUSER NOBYPASSRLS;
GRANT pg_read_all_stats TO tasks;

-- A plain login may not set these for itself. The executed plan of a slow statement comes as a notice of its own.
ALTER ROLE tasks SET auto_explain.log_min_duration = :slow_query_ms;
ALTER ROLE tasks SET auto_explain.log_level = notice;
ALTER ROLE tasks SET auto_explain.log_format = json;
ALTER ROLE tasks SET auto_explain.log_analyze = on;
ALTER ROLE tasks SET auto_explain.log_buffers = on;
ALTER ROLE tasks SET auto_explain.log_verbose = on;
ALTER ROLE tasks SET auto_explain.log_parameter_max_length = 0;

-- Times of a plan's steps make statements slower. Set for the server, a running one can be told to take them.
ALTER ROLE tasks RESET auto_explain.log_timing;
ALTER SYSTEM SET auto_explain.log_timing = off;
SELECT pg_reload_conf() \g /dev/null

-- The server's log says who waits for whom, and a deadlock is found, before lock_timeout ends a wait.
ALTER ROLE tasks SET log_lock_waits = on;
ALTER ROLE tasks SET deadlock_timeout = '200ms';

\connect template1
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
\connect postgres
SELECT 'CREATE DATABASE tasks OWNER tasks' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'tasks') \gexec
\connect tasks
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
