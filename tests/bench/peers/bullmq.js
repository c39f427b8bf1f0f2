// BullMQ: no-op jobs from Redis. Prints one JSON line.
import { Queue, Worker } from "bullmq";

const jobs = Number(process.env.JOBS);
const { hostname: host, port } = new URL(process.env.REDIS_URL);
const connection = { host, port: Number(port), maxRetriesPerRequest: null };
const queue = new Queue("noop", { connection });
const filling = performance.now();
for (let at = 0; at < jobs; at += 500) {
  const batch = Array.from({ length: Math.min(500, jobs - at) }, () => ({
    name: "noop",
    data: {},
  }));
  await queue.addBulk(batch);
}
const filled = performance.now();

let done = 0;
let finished;
const all = new Promise((resolve) => (finished = resolve));
const working = performance.now();
const worker = new Worker("noop", async () => {}, { connection, concurrency: 100 });
worker.on("completed", () => {
  done += 1;
  if (done === jobs) finished();
});
await all;
const worked = performance.now();
console.log(
  JSON.stringify({
    enqueue_per_s: (jobs / (filled - filling)) * 1000,
    per_s: (jobs / (worked - working)) * 1000,
  }),
);
process.exit(0);
