// Probot: takes in webhooks and answers when the delivery is in PostgreSQL, the same row that
// Patchfleet keeps. Prints one JSON line when it listens.
import { createServer } from "node:http";
import { generateKeyPairSync } from "node:crypto";
import pg from "pg";
import { createNodeMiddleware, Probot } from "probot";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
await pool.query(
  "CREATE TABLE deliveries (id TEXT PRIMARY KEY, event TEXT NOT NULL, action TEXT, " +
    "repository TEXT, received_at BIGINT NOT NULL)",
);
const { privateKey } = generateKeyPairSync("rsa", {
  modulusLength: 2048,
  privateKeyEncoding: { type: "pkcs1", format: "pem" },
  publicKeyEncoding: { type: "pkcs1", format: "pem" },
});
const probot = new Probot({
  appId: 1,
  privateKey,
  secret: process.env.WEBHOOK_SECRET,
  logLevel: "silent",
});
const app = (robot) => {
  robot.on("issues.opened", async ({ id, name, payload }) => {
    await pool.query(
      "INSERT INTO deliveries (id, event, action, repository, received_at) " +
        "VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
      [id, name, payload.action, payload.repository.full_name, Date.now() * 1000],
    );
  });
};
const webhooksPath = "/webhooks/github";
const middleware = await createNodeMiddleware(app, { probot, webhooksPath });
const server = createServer(middleware);
server.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ port: server.address().port }));
});
