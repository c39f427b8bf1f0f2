// pg-boss: no-op jobs from PostgreSQL, in batches. Prints one JSON line.
import PgBoss from "pg-boss";

const jobs = Number(process.env.JOBS);
const queue = "noop";
const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, max: 10 });
boss.on("error", (error) => console.error(error));
await boss.start();
await boss.createQueue(queue);
const filling = performance.now();
for (let at = 0; at < jobs; at += 500) {
  const batch = Array.from({ length: Math.min(500, jobs - at) }, () => ({ name: queue }));
  await boss.insert(batch);
}
const filled = performance.now();

let done = 0;
const working = performance.now();
// Its own loop polls twice a second at most; fetching and completing by hand is its quickest way.
const work = async () => {
  while (done < jobs) {
    const batch = await boss.fetch(queue, { batchSize: 500 });
    if (batch.length === 0) break;
    await boss.complete(
      queue,
      batch.map((job) => job.id),
    );
    done += batch.length;
  }
};
await Promise.all(Array.from({ length: 4 }, work));
const worked = performance.now();
console.log(
  JSON.stringify({
    enqueue_per_s: (jobs / (filled - filling)) * 1000,
    per_s: (done / (worked - working)) * 1000,
  }),
);
await boss.stop({ graceful: false });
process.exit(0);
