// The same API with Fastify. OBSERVE=1 turns on traces, metrics, limits and pino's log.
"use strict";

const OBSERVE = process.env.OBSERVE === "1";
if (OBSERVE) require("./telemetry");

const Fastify = require("fastify");
const { Pool } = require("pg");

const app = Fastify({ logger: OBSERVE });
const pool = new Pool({ max: 8 }); // where to: PGHOST, PGUSER and PGDATABASE
const COLUMNS = "id, title, description, completed, user_id, created_at, updated_at";

const example = {
  type: "object",
  properties: {
    id: { type: "integer" },
    title: { type: "string" },
    description: { type: "string", nullable: true },
    completed: { type: "boolean" },
    user_id: { type: "string" },
    created_at: { type: "string", format: "date-time" },
    updated_at: { type: "string", format: "date-time" },
  },
};
const body = {
  type: "object",
  required: ["title"],
  properties: {
    title: { type: "string", minLength: 1, maxLength: 200 },
    description: { type: "string", nullable: true, maxLength: 10000 },
    completed: { type: "boolean", default: false },
  },
};
const list = {
  querystring: { type: "object", properties: { limit: { type: "integer", minimum: 1, maximum: 100, default: 50 } } },
  response: { 200: { type: "array", items: example } },
};
const one = { params: { type: "object", properties: { id: { type: "integer" } } }, response: { 200: example } };

async function observe() {
  const prom = require("prom-client");
  prom.collectDefaultMetrics();
  const duration = new prom.Histogram({
    name: "http_request_duration_seconds",
    help: "Duration of requests.",
    labelNames: ["method", "route", "status_code"],
  });
  app.addHook("onResponse", async (request, reply) => {
    const labels = { method: request.method, route: request.routeOptions.url, status_code: reply.statusCode };
    duration.observe(labels, reply.elapsedTime / 1000);
  });
  app.get("/metrics", async (request, reply) => reply.type(prom.register.contentType).send(await prom.register.metrics()));
  await app.register(require("@fastify/rate-limit"), { max: 1_000_000_000, timeWindow: "1 minute" });
}

async function main() {
  await app.register(require("@fastify/jwt"), { secret: process.env.BETTER_AUTH_SECRET });
  if (OBSERVE) await observe();
  const onRequest = (request) => request.jwtVerify();

  app.get("/health", async () => {
    await pool.query("SELECT 1");
    return { status: "healthy" };
  });

  app.get("/api/examples", { onRequest, schema: list }, async (request) => {
    const sql = `SELECT ${COLUMNS} FROM example WHERE user_id = $1 ORDER BY id DESC LIMIT $2`;
    return (await pool.query(sql, [request.user.sub, request.query.limit])).rows;
  });

  app.get("/api/examples/:id", { onRequest, schema: one }, async (request, reply) => {
    const sql = `SELECT ${COLUMNS} FROM example WHERE id = $1 AND user_id = $2`;
    const { rows } = await pool.query(sql, [request.params.id, request.user.sub]);
    if (!rows.length) return reply.code(404).send({ message: "Example not found" });
    return rows[0];
  });

  app.post("/api/examples", { onRequest, schema: { body, response: { 201: example } } }, async (request, reply) => {
    const sql = `INSERT INTO example (user_id, title, description, completed, created_at, updated_at)
      VALUES ($1, $2, $3, $4, now(), now()) RETURNING ${COLUMNS}`;
    const { title, description, completed } = request.body;
    const { rows } = await pool.query(sql, [request.user.sub, title, description, completed]);
    return reply.code(201).send(rows[0]);
  });

  await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT) });
  process.on("SIGTERM", () => process.exit(0));
}

main();
