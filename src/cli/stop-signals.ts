/** SIGINT or SIGTERM: the first asks to finish, the second leaves at once. */
export interface StopRequest {
  /** Aborted by the first signal. */
  readonly signal: AbortSignal;
  /** Resolves at the first signal. */
  readonly requested: Promise<void>;
  /** Last act before the process leaves at the second signal; must be synchronous. */
  onSecond(action: () => void): void;
  /** Leaves at once, as a second signal does. */
  leave(exitCode: number): never;
  /** Gives the signals back to Node. */
  forget(): void;
}

const stopSignals = { SIGINT: 130, SIGTERM: 143 } as const;

/** Takes over SIGINT and SIGTERM of this process. */
export function watchStopSignals(): StopRequest {
  const controller = new AbortController();
  let lastAct = () => {};
  const leave = (exitCode: number): never => {
    lastAct();
    process.exit(exitCode);
  };
  const handlers = Object.entries(stopSignals).map(([name, exitCode]) => {
    const handler = () => {
      if (controller.signal.aborted) leave(exitCode);
      controller.abort(new Error(`stopped by ${name}`));
    };
    process.on(name, handler);
    return { name, handler };
  });
  return {
    signal: controller.signal,
    requested: new Promise((resolve) => {
      controller.signal.addEventListener("abort", () => resolve(), { once: true });
    }),
    onSecond: (action) => {
      lastAct = action;
    },
    leave,
    forget: () => {
      for (const { name, handler } of handlers) process.off(name, handler);
    },
  };
}
