/**
 * To be imported before onnxruntime-node. Its official builds send usage events to their maker, and
 * write a log, a session id and a device id to this machine, unless the variable is set by the time
 * the library starts.
 */
process.env.ORT_DISABLE_TELEMETRY = "1";
