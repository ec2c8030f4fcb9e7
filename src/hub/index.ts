export { type HubOptions, readHubOptions } from "./hub-options.js";
export { fetchSnapshot, type SnapshotRequest } from "./snapshot.js";
