-- The image runs it once, as the superuser. Row-level security does not bind one, so the API has a login of its own.
\getenv password DATABASE_PASSWORD
CREATE ROLE tasks LOGIN CREATEROLE PASSWORD :'password';
CREATE DATABASE tasks OWNER tasks;
