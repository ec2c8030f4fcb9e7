import { UcmError } from "../errors/index.js";
import type { SharedFile } from "./shared-file.js";
import type { WorkerChannel } from "./worker-channel.js";

/** Looks per timeout: a hang is told at most so much later than it could be. */
const LOOKS = 10;
const LONGEST_PAUSE_MS = 500;

/**
 * Watches the signs of life of a group's workers: one whose step, or idle loop, stands still for
 * `timeoutMs` is told to `onHang`. Workers compute on the thread that would answer a question, so none
 * is asked. Returns how to stop watching.
 */
export function watchWorkers(
  channels: readonly Pick<WorkerChannel, "name" | "activity">[],
  shared: Pick<SharedFile, "heartbeat">,
  timeoutMs: number,
  onHang: (error: UcmError) => void,
): () => void {
  const pauseMs = Math.min(LONGEST_PAUSE_MS, timeoutMs / LOOKS);
  // Time is counted in looks: while this process is stopped or busy, it is not the workers' silence.
  const last = channels.map(() => ({ activity: "", silentLooks: 0 }));
  const look = () => {
    for (const [rank, channel] of channels.entries()) {
      const activity = channel.activity(shared.heartbeat(rank));
      const known = last[rank]!;
      if (activity === null || activity !== known.activity) {
        last[rank] = { activity: activity ?? "", silentLooks: 0 };
      } else if (++known.silentLooks * pauseMs > timeoutMs) {
        onHang(hungError(channel.name, activity, timeoutMs));
        return;
      }
    }
  };
  const timer = setInterval(look, pauseMs);
  timer.unref();
  return () => clearInterval(timer);
}

function hungError(name: string, activity: string, timeoutMs: number): UcmError {
  const what = activity.startsWith("step")
    ? "made no progress with a step"
    : "gave no sign of life";
  return new UcmError(
    "UCM_ERR_TIMEOUT",
    `${name} ${what} for ${timeoutMs / 1000} s and was stopped. If steps of this model take longer, raise --worker-timeout.`,
  );
}
