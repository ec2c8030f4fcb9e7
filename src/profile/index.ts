export { Profile, type ProfiledStep } from "./profile.js";
export { SpanRecorder } from "./span-recorder.js";
export { noTracer, type SpanName, type Spans, type Tracer } from "./spans.js";
