// Better Auth as a frontend's own server would run it, on a free port of loopback, its database in memory.
// Prints its URL once it listens. COOKIE_KEYS=1 signs the session cookie with the key pair instead of the secret.
import { createServer } from "node:http";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";
import { admin, jwt, organization } from "better-auth/plugins";

// A test puts the plugins of docs/frontend.md in the place of this line.
const plugins = [jwt(process.env.COOKIE_KEYS ? { sessionCookieCache: true } : {})];
let auth;
const server = createServer().listen(0, "127.0.0.1", () => {
  const baseURL = `http://127.0.0.1:${server.address().port}`;
  const names = ["user", "session", "account", "verification", "jwks", "organization", "member", "invitation"];
  const tables = Object.fromEntries(names.map((name) => [name, []]));
  auth = betterAuth({
    baseURL,
    database: memoryAdapter(tables),
    emailAndPassword: { enabled: true },
    plugins,
    secret: process.env.BETTER_AUTH_SECRET,
    session: { cookieCache: { enabled: true, strategy: "jwt" } },
  });
  server.on("request", toNodeHandler(auth));
  console.log(baseURL);
});
