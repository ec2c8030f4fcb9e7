import { type EngineConfig, resolveEngineConfig } from "../config/index.js";
import { UcmError } from "../errors/index.js";
import { configureLog, log, writeServerLine } from "../log/index.js";
import { ServingMetrics } from "../metrics/index.js";
import { createApp } from "../server/index.js";
import type { Tokenizer } from "../tokenizer/index.js";
import { type EngineRuntime, openTokenizer, startEngine } from "./engine-runtime.js";
import type { Invocation } from "./invocation.js";
import { type ReservedSocket, reserveSocket } from "./listen-socket.js";
import { locateModel } from "./model-files.js";
import { readVersion } from "./package-files.js";
import { pythonRepr } from "./python-repr.js";
import { logRequests } from "./request-log.js";
import { serverLogLevel, serverOptions } from "./server-options.js";
import { startStatsLog } from "./stats-log.js";
import { type StopRequest, watchStopSignals } from "./stop-signals.js";
import { refreshTls } from "./tls-files.js";

/** How long connections may take to close once every answer is written. */
const CLOSE_PATIENCE_MS = 2_000;

/**
 * `ucm serve`: configuration, port, workers, HTTP, in this order; runs until a signal, or until
 * the workers keep failing. Exit code 0 after a signal, however long the drain took.
 */
export async function runServe({ flags, nonDefault, warnings }: Invocation): Promise<number> {
  configureLog({
    label: "APIServer",
    serverLevel: serverLogLevel(flags),
    format: flags.logFormat,
  });
  const version = readVersion();
  const { model } = flags;
  if (model === null) {
    throw new UcmError(
      "UCM_ERR_USAGE",
      "No model specified! Please specify model either as a positional argument or in a config file: ucm serve <model> --<arg> <value>.",
    );
  }
  log.info(`ucm API server version ${version}`);
  const { model: _, ...others } = nonDefault;
  log.info(`non-default args: ${pythonRepr({ model_tag: model, ...others })}`);
  for (const warning of warnings) log.warning(warning);
  if (flags.enableLogOutputs && !flags.enableLogRequests) {
    throw new UcmError(
      "UCM_ERR_USAGE",
      "Error: --enable-log-outputs requires --enable-log-requests",
    );
  }
  const options = serverOptions(flags, version, process.env);
  const socket = await reserveSocket(flags);
  const stop = watchStopSignals();
  try {
    const located = await locateModel(flags, model, stop.signal);
    const config = resolveEngineConfig({ ...flags, ...located });
    const tokenizer = await openTokenizer(config);
    const metrics = createMetrics(config, flags);
    const runtime = await startEngine(config, tokenizer, {
      observer: metrics.observer,
      signal: stop.signal,
      showProgress: flags.useTqdmOnLoad,
    });
    metrics.readFrom(() => runtime.engine.stats());
    stop.onSecond(() => runtime.workers.kill());
    try {
      return await serveUntilStopped({
        ...{ config, tokenizer, runtime, metrics, socket, stop, flags, options },
      });
    } finally {
      await runtime.stop();
    }
  } catch (error) {
    if (stop.signal.aborted && error === stop.signal.reason) return 0;
    throw error;
  } finally {
    socket.close();
    stop.forget();
  }
}

interface Service {
  config: EngineConfig;
  tokenizer: Tokenizer | null;
  runtime: EngineRuntime;
  metrics: ServingMetrics;
  socket: ReservedSocket;
  stop: StopRequest;
  flags: Invocation["flags"];
  options: ReturnType<typeof serverOptions>;
}

async function serveUntilStopped(service: Service): Promise<number> {
  const { config, tokenizer, runtime, socket, stop, flags, options } = service;
  const { engine, workers } = runtime;
  const app = createApp({
    engine: flags.enableLogRequests
      ? logRequests(engine, {
          outputs: flags.enableLogOutputs,
          deltas: flags.enableLogDeltas,
          maxLogLen: flags.maxLogLen,
        })
      : engine,
    tokenizer,
    config,
    options,
    metrics: service.metrics,
  });
  const routes = collectRoutes(app);
  await app.ready();
  log.info("Supported tasks: ['generate']");
  log.info(`Starting ucm server on ${socket.url}`);
  log.info("Available routes are:");
  for (const [path, methods] of routes) {
    log.info(`Route: ${path}, Methods: ${[...methods].join(", ")}`);
  }
  log.info(`Start-up took ${process.uptime().toFixed(2)} seconds in all`);
  writeServerLine("INFO", `Started server process [${process.pid}]`);
  writeServerLine("INFO", "Waiting for application startup.");
  await socket.handTo(app.server);
  writeServerLine("INFO", "Application startup complete.");
  const stopRefresh = flags.enableSslRefresh ? refreshTls(flags, app.server) : () => {};
  const stopStats = flags.disableLogStats ? () => {} : startStatsLog(engine, process.env);
  const death = await Promise.race([
    stop.requested.then(() => null),
    new Promise<UcmError>((resolve) => workers.onGiveUp(resolve)),
  ]);
  stopStats();
  stopRefresh();
  writeServerLine("INFO", "Shutting down");
  app.server.close();
  workers.drain();
  if (death === null) await drain(engine, flags.shutdownTimeout);
  writeServerLine("INFO", "Waiting for application shutdown.");
  await closeApp(app);
  writeServerLine("INFO", "Application shutdown complete.");
  writeServerLine("INFO", `Finished server process [${process.pid}]`);
  if (death !== null) throw death;
  return 0;
}

/** Without statistics there are none of the engine to scrape either, as in vLLM. */
function createMetrics({ model, cache }: EngineConfig, flags: Invocation["flags"]): ServingMetrics {
  return new ServingMetrics({
    modelName: model.servedNames[0] ?? model.tag,
    hasEngineSeries: !flags.disableLogStats,
    maxModelLen: model.maxModelLen,
    cacheConfig: {
      block_size: String(cache.blockSize),
      cache_dtype: cache.kvDtype,
      num_gpu_blocks: String(cache.numBlocks),
      enable_prefix_caching: cache.enablePrefixCaching ? "True" : "False",
      gpu_memory_utilization: String(flags.gpuMemoryUtilization),
      prefix_caching_hash_algo: "sha256_cbor",
    },
  });
}

/** Methods by path, filled while the routes are registered. */
function collectRoutes(app: ReturnType<typeof createApp>): Map<string, Set<string>> {
  const routes = new Map<string, Set<string>>();
  app.addHook("onRoute", ({ url, method }) => {
    if (url === "*") return;
    const methods = routes.get(url) ?? new Set();
    for (const name of [method].flat()) methods.add(name);
    routes.set(url, methods);
  });
  return routes;
}

/** Lets requests finish, for `timeoutS` at most (null: as long as they take), then aborts the rest. */
async function drain(engine: EngineRuntime["engine"], timeoutS: number | null): Promise<void> {
  const { running, waiting } = engine.stats();
  const count = running + waiting;
  const limit = timeoutS === null ? "none" : `${timeoutS}s`;
  if (timeoutS === 0) {
    if (count > 0) log.info(`Aborting ${count} requests`);
    await engine.stop();
    return;
  }
  if (count > 0) log.info(`Draining ${count} in-flight requests (timeout=${limit})`);
  const timer =
    timeoutS === null ? null : setTimeout(() => void engine.stop(), Math.ceil(timeoutS * 1000));
  await engine.drain();
  if (timer !== null) clearTimeout(timer);
}

async function closeApp(app: ReturnType<typeof createApp>): Promise<void> {
  const timer = setTimeout(() => app.server.closeAllConnections(), CLOSE_PATIENCE_MS);
  app.server.closeIdleConnections();
  await app.close();
  clearTimeout(timer);
}
