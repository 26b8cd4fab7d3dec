// Better Auth as a frontend's own server would run it, on a free port of loopback, its database in memory.
// Prints its URL once it listens. COOKIE_KEYS=1 signs the session cookie with the key pair instead of the secret.
import { createServer } from "node:http";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";
import { jwt } from "better-auth/plugins";

const server = createServer().listen(0, "127.0.0.1", () => {
  const baseURL = `http://127.0.0.1:${server.address().port}`;
  const tables = { user: [], session: [], account: [], verification: [], jwks: [] };
  const auth = betterAuth({
    baseURL,
    database: memoryAdapter(tables),
    emailAndPassword: { enabled: true },
    plugins: [jwt(process.env.COOKIE_KEYS ? { sessionCookieCache: true } : {})],
    secret: process.env.BETTER_AUTH_SECRET,
    session: { cookieCache: { enabled: true, strategy: "jwt" } },
  });
  server.on("request", toNodeHandler(auth));
  console.log(baseURL);
});
