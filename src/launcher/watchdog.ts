import { UcmError } from "../errors/index.js";
import type { SharedFile } from "./shared-file.js";
import type { WorkerChannel } from "./worker-channel.js";

/** Looks per timeout: a hang is told at most so much later than it could be. */
const LOOKS = 10;
const LONGEST_PAUSE_MS = 500;

type Watched = Pick<WorkerChannel, "name" | "activity" | "standstill">;

/**
 * Watches the signs of life of a group's workers: one whose loading, step or idle loop stands still for
 * `timeoutMs` is told to `onHang`. Workers compute on the thread that would answer a question, so none
 * is asked. Returns how to stop watching.
 */
export function watchWorkers(
  channels: readonly Watched[],
  shared: Pick<SharedFile, "heartbeat">,
  timeoutMs: number,
  onHang: (error: UcmError) => void,
): () => void {
  const pauseMs = Math.min(LONGEST_PAUSE_MS, timeoutMs / LOOKS);
  // Time is counted in looks: while this process is stopped or busy, it is not the workers' silence.
  const last = channels.map(() => ({ activity: "", silentLooks: 0 }));
  const isHung = (channel: Watched, rank: number) => {
    const activity = channel.activity(shared.heartbeat(rank));
    const known = last[rank]!;
    if (activity === null || activity !== known.activity) {
      last[rank] = { activity: activity ?? "", silentLooks: 0 };
    } else known.silentLooks += 1;
    return last[rank]!.silentLooks * pauseMs > timeoutMs;
  };
  const look = () => {
    const hung = channels.filter(isHung);
    // Ranks wait for each other, so one that hangs silences all; its own state may give it away.
    const culprit = hung.find(({ standstill }) => standstill !== null) ?? hung[0];
    if (culprit === undefined) return;
    const { activity } = last[channels.indexOf(culprit)]!;
    onHang(hungError(culprit, activity, timeoutMs));
  };
  const timer = setInterval(look, pauseMs);
  timer.unref();
  return () => clearInterval(timer);
}

/** What stood still, and what to do when it was only slow. */
const standstills = {
  load: ["made no progress with loading the model", "If the model's disk needs longer"],
  step: ["made no progress with a step", "If steps of this model take longer"],
  idle: ["gave no sign of life", "If the machine is that busy"],
} as const;

function hungError(
  { name, standstill }: Pick<Watched, "name" | "standstill">,
  activity: string,
  timeoutMs: number,
): UcmError {
  const [what, excuse] = standstills[activity.split(" ")[0] as keyof typeof standstills];
  const why = standstill === null ? "" : `: ${standstill}`;
  return new UcmError(
    "UCM_ERR_TIMEOUT",
    `${name} ${what} for ${timeoutMs / 1000} s and was killed${why}. ${excuse}, raise --worker-timeout.`,
  );
}
