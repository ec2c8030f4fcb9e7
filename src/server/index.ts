export { type AppDependencies, createApp } from "./app.js";
export type { ServingEngine } from "./context.js";
export type { AppOptions, ServerOptions, TlsOptions } from "./options.js";
