// What every client does with the simulator: it prints what it saw as one line of JSON.
export const root = process.env.SIMULATOR;
export const key = process.env.SIMULATOR_KEY;
export const model = "simulated";
export const tool = {
  name: "weather",
  description: "The weather of a city.",
  schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

// The error of a call that has to fail.
export async function failure(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error("the call did not fail");
}

export function report(seen) {
  console.log(JSON.stringify(seen));
}
