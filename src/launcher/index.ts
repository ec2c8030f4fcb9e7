export { type LaunchOptions, launchWorkers, type WorkerGroup } from "./launch.js";
export { planWorkers, type WorkerSpec } from "./plan.js";
