// graphile-worker: no-op jobs from PostgreSQL, with its own way for throughput (jobs fetched and
// completed in batches) unless ONE_BY_ONE is set. Prints one JSON line.
import { Logger, makeWorkerUtils, run } from "graphile-worker";

const connectionString = process.env.DATABASE_URL;
const jobs = Number(process.env.JOBS);
const logger = new Logger(() => () => {});

const utils = await makeWorkerUtils({ connectionString, logger });
await utils.migrate();
const filling = performance.now();
for (let at = 0; at < jobs; at += 500) {
  const specs = Array.from({ length: Math.min(500, jobs - at) }, () => ({
    identifier: "noop",
    payload: {},
  }));
  await utils.addJobs(specs);
}
const filled = performance.now();
await utils.release();

let done = 0;
let finished;
const all = new Promise((resolve) => (finished = resolve));
const batches = process.env.ONE_BY_ONE
  ? {}
  : { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
const working = performance.now();
const runner = await run({
  preset: {
    worker: { connectionString, concurrentJobs: 24, maxPoolSize: 10, logger, ...batches },
  },
  noHandleSignals: true,
  taskList: {
    noop: () => {
      done += 1;
      if (done === jobs) finished();
    },
  },
});
await all;
const worked = performance.now();
await runner.stop();
console.log(
  JSON.stringify({
    enqueue_per_s: (jobs / (filled - filling)) * 1000,
    per_s: (jobs / (worked - working)) * 1000,
  }),
);
process.exit(0);
