export { type LaunchOptions, launchWorkers, type WorkerGroup } from "./launch.js";
export { Lifecycle, type LifecycleState } from "./lifecycle.js";
export { planWorkers, type WorkerSpec } from "./plan.js";
export { type RestartPolicy, Supervisor } from "./supervisor.js";
