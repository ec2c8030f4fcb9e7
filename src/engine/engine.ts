import { setImmediate as nextTurn } from "node:timers/promises";
import type { EngineConfig } from "../config/engine-config.js";
import { toUcmError, UcmError } from "../errors/index.js";
import { GrammarService, grammarVocabulary } from "../grammar/index.js";
import { BlockHasher } from "../kvcache/index.js";
import type { SamplingParams, StepMessage, StepResultMessage } from "../messages/index.js";
import { noTracer, type Profile } from "../profile/index.js";
import type {
  LoadFailure,
  Scheduler,
  SchedulerStats,
  SequenceEvent,
  StartedSequence,
} from "../scheduler/index.js";
import type { Tokenizer } from "../tokenizer/types.js";
import { carryOn, kindOfCount } from "./carried-counts.js";
import { createScheduler } from "./create-scheduler.js";
import type { EngineOptions, EngineStats } from "./engine-options.js";
import { LiveRequest } from "./live-request.js";
import { Pause, type PauseMode } from "./pause.js";
import { RequestMeter } from "./request-meter.js";
import { keepsRequests, Sleeper } from "./sleeper.js";
import { SparseTotals } from "./sparse-report.js";
import { StepObserver } from "./step-observer.js";
import { loadFailureError, logLoadFailure, logPrefix } from "./store-lines.js";
import { StoreReports } from "./store-reports.js";
import type { Executor, GenerateOutput, GenerateRequest } from "./types.js";
import { checkGenerateRequest } from "./validation.js";
import { WorkerLoss } from "./worker-loss.js";

/**
 * Owns the requests: gives their sequences to the scheduler, runs its steps on the executor one at a
 * time, and turns the tokens into streams of text.
 */
export class Engine {
  readonly #config: EngineConfig;
  readonly #executor: Executor;
  readonly #tokenizer: Tokenizer | null;
  readonly #clock: () => number;
  #scheduler: Scheduler;
  /** Statistics of schedulers that were replaced with their workers. */
  #past: SchedulerStats | null = null;
  /** Null under --no-enable-prefix-caching without a store. */
  readonly #blockHasher: BlockHasher | null;
  /** Null without a tokenizer. */
  readonly #grammars: GrammarService | null;
  /** The request of every sequence that has not ended. */
  readonly #owners = new Map<number, LiveRequest>();
  /** Requests that have not ended, with the undoing of their ties to the outside. */
  readonly #live = new Map<LiveRequest, () => void>();
  readonly #totals = { promptTokens: 0, generatedTokens: 0 };
  readonly #steps: StepObserver;
  readonly #profile: Profile | null;
  readonly #sleeper: Sleeper;
  readonly #loss: WorkerLoss;
  readonly #meter: RequestMeter | null;
  readonly #storeReports: StoreReports;
  /** Null when attention is dense. */
  readonly #sparse: SparseTotals | null;
  #nextSeqId = 0;
  /** Set while steps run. */
  #loop: Promise<void> | null = null;
  #isClosed = false;
  #pause: Pause | null = null;

  constructor(options: EngineOptions) {
    const { config, executor, tokenizer, clock = () => performance.now() } = options;
    this.#config = config;
    this.#executor = executor;
    this.#sleeper = new Sleeper(executor);
    this.#tokenizer = tokenizer;
    this.#clock = clock;
    const { observer = null, profile = null } = options;
    this.#profile = profile;
    this.#steps = new StepObserver(config, observer);
    this.#meter = observer === null ? null : new RequestMeter(observer, clock);
    this.#storeReports = options.storeReports ?? new StoreReports();
    const { blockSize, enablePrefixCaching, blockHashSeed } = config.cache;
    this.#blockHasher =
      enablePrefixCaching || config.store !== null
        ? new BlockHasher({ blockSize, seed: blockHashSeed })
        : null;
    this.#grammars =
      tokenizer === null
        ? null
        : new GrammarService({
            makeVocabulary: () => grammarVocabulary(tokenizer, config.model),
            entry: options.grammarEntry,
          });
    this.#scheduler = createScheduler(config);
    const { sparse, cache } = config;
    this.#sparse = sparse === null ? null : new SparseTotals(sparse.method, cache, observer);
    this.#loss = new WorkerLoss(executor, (error) => this.#lose(error));
  }

  /** Why the engine takes no requests: its workers are lost, and others not there yet, or never. */
  get failure(): UcmError | null {
    return this.#loss.failure;
  }

  /**
   * Makes ready what the request needs before it is queued; a grammar may take seconds. What is not
   * prepared is made ready while it waits, and fails it then. `signal` gives up waiting.
   * @throws UcmError UCM_ERR_INVALID_REQUEST for a grammar that cannot be followed.
   */
  async prepare({ grammar }: Pick<SamplingParams, "grammar">, signal?: AbortSignal): Promise<void> {
    if (grammar !== null) await this.#grammars?.prepare(grammar.spec, signal);
  }

  /**
   * Queues a request and returns its outputs: one per token, each sequence ending with the one that
   * has a finish reason. Leaving the iteration cancels the request and frees its blocks at once; so
   * does `signal`, which ends each live sequence with finish reason "abort".
   * @throws UcmError at the call for a request that is refused; from the iteration, once, when the
   * workers are lost after its first token, or a second time.
   */
  generate(request: GenerateRequest, signal?: AbortSignal): AsyncIterableIterator<GenerateOutput> {
    this.#refuseWhileDown();
    checkGenerateRequest(request, this.#config, this.#tokenizer);
    const live = new LiveRequest(request, {
      firstSeqId: this.#nextSeqId,
      tokenizer: this.#tokenizer,
      blockHasher: this.#blockHasher,
      arrivalMs: this.#clock(),
      onCancel: () => this.#abort(live),
    });
    if (signal?.aborted) {
      live.abort();
      return live.queue;
    }
    this.#nextSeqId += live.sequences.length;
    if (this.#pause === null) this.#enqueue(live);
    else this.#enqueueLater(this.#pause, live);
    this.#meter?.arrived(live);
    this.#register(live, signal);
    return live.queue;
  }

  /** Whether steps are held back, since pause() and until resume(). */
  get isPaused(): boolean {
    return this.#pause !== null;
  }

  /**
   * Runs no more steps from now on, and resolves when none is in flight. Requests that come meanwhile
   * wait for resume(). Nothing happens when it is paused already.
   */
  async pause(mode: PauseMode): Promise<void> {
    if (this.#pause !== null) return;
    this.#pause = new Pause(mode);
    if (mode === "abort") for (const live of [...this.#live.keys()]) this.#abort(live);
    await this.#loop;
  }

  /**
   * Pauses and ends the workers: weights and keys and values are gone from memory, until wakeUp().
   * @throws UcmError UCM_ERR_INVALID_REQUEST while requests are kept where they are.
   */
  sleep(mode: Exclude<PauseMode, "keep">): Promise<void> {
    const prepare = async () => {
      if (this.#pause?.mode === "keep" && this.#scheduler.hasWork()) throw keepsRequests();
      await this.pause(mode);
      if (this.#loss.failure !== null) throw this.#loss.failure;
    };
    return this.#sleeper.fallAsleep(prepare, () => {
      this.#scheduler = createScheduler(this.#config);
    });
  }

  /** Starts workers again and goes on; what asked meanwhile has waited. */
  wakeUp(): Promise<void> {
    return this.#sleeper.wakeUp(() => this.resume());
  }

  /** @throws UcmError UCM_ERR_INVALID_REQUEST while it is asleep. */
  resume(): void {
    this.#sleeper.requireAwake();
    const pause = this.#pause;
    this.#pause = null;
    pause?.release();
    if (this.#scheduler.hasWork()) this.#loop ??= this.#run();
  }

  /** Forgets what prompts have in common with those before them; the store is not touched. */
  resetPrefixCache(): void {
    this.#scheduler.resetPrefixCache();
  }

  stats(): EngineStats {
    const stats = this.#schedulerStats();
    return {
      ...stats,
      ...this.#totals,
      waiting: stats.waiting + (this.#pause?.numDeferred ?? 0),
      promptTokensBySource: this.#steps.promptTokensBySource,
      stores: this.#storeReports.snapshots,
      sparse: stats.sparse === null ? null : (this.#sparse?.report(stats.sparse) ?? null),
      isAsleep: this.#sleeper.isAsleep,
    };
  }

  /** Refuses new requests from now on; resolves when those in progress have ended. */
  async drain(): Promise<void> {
    this.#isClosed = true;
    await this.#sleeper.settled;
    if (this.#sleeper.isAsleep) return this.stop();
    this.resume();
    await this.#loop;
    await this.#loss.settled;
    await this.#loop;
    await this.#grammars?.end();
  }

  /** Refuses new requests and aborts those in progress; resolves when no step is in flight. */
  async stop(): Promise<void> {
    this.#isClosed = true;
    for (const live of [...this.#live.keys()]) this.#abort(live);
    await this.#loop;
    await this.#grammars?.end();
  }

  #register(live: LiveRequest, signal: AbortSignal | undefined): void {
    const onAbort = () => this.#abort(live);
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#live.set(live, () => signal?.removeEventListener("abort", onAbort));
  }

  /**
   * Gives the sequences of a request to the scheduler.
   * @throws UcmError UCM_ERR_QUEUE_FULL or UCM_ERR_CONTEXT_LENGTH.
   */
  #enqueue(live: LiveRequest): void {
    const { sampling, promptTokenIds } = live.request;
    this.#scheduler.add(live.sequences);
    for (const { seqId } of live.sequences) {
      this.#owners.set(seqId, live);
      if (sampling.grammar !== null) {
        this.#grammars?.open(seqId, sampling.grammar, promptTokenIds.length);
      }
    }
    this.#loop ??= this.#run();
  }

  #enqueueLater(pause: Pause, live: LiveRequest): void {
    const { maxNumSeqs, maxNumQueuedRequests } = this.#config.scheduler;
    if (pause.numDeferred >= maxNumSeqs + maxNumQueuedRequests) {
      throw new UcmError(
        "UCM_ERR_QUEUE_FULL",
        `The server is paused and ${pause.numDeferred} requests wait. Please retry later.`,
      );
    }
    pause.defer(live, () => this.#enqueueOrFail(live));
  }

  /** Unless it has ended, or a restart has done it already. */
  #enqueueOrFail(live: LiveRequest): void {
    const isQueued = live.sequences.some(({ seqId }) => this.#owners.has(seqId));
    if (isQueued || !this.#live.has(live)) return;
    try {
      this.#enqueue(live);
    } catch (error) {
      this.#fail(live, toUcmError(error));
    }
  }

  /** `reason` is why its sequences end that have not ended yet. */
  #unregister(live: LiveRequest, reason: "abort" | "error" = "error"): void {
    this.#live.get(live)?.();
    this.#live.delete(live);
    this.#pause?.forget(live);
    for (const { seqId } of live.sequences) this.#meter?.ended(seqId, reason);
    this.#dequeue(live);
  }

  #dequeue(live: LiveRequest): void {
    for (const { seqId } of live.sequences) {
      this.#scheduler.abort(seqId);
      this.#owners.delete(seqId);
      this.#grammars?.close(seqId);
    }
  }

  #abort(live: LiveRequest): void {
    this.#unregister(live, "abort");
    live.abort();
  }

  async #run(): Promise<void> {
    try {
      // The turn of the event loop between steps lets requests arrive, and those that arrive together
      // start together.
      await nextTurn();
      while (this.#canStep()) {
        await this.#step();
        await nextTurn();
      }
    } catch (error) {
      this.#lose(toUcmError(error));
    } finally {
      this.#loop = null;
    }
  }

  #canStep(): boolean {
    return this.#loss.failure === null && this.#pause?.mode !== "keep" && this.#scheduler.hasWork();
  }

  async #step(): Promise<void> {
    const tracer = this.#profile ?? noTracer;
    tracer.begin("engine step");
    tracer.begin("schedule");
    const { step, started } = this.#scheduler.schedule();
    const scheduledMs = this.#clock();
    this.#noteStarts(started, scheduledMs);
    this.#steps.stepped(step);
    tracer.end();
    tracer.begin("send");
    const execution = this.#executor.execute(step, this.#masksOf(step));
    tracer.end();
    tracer.begin("wait");
    const result = await execution;
    tracer.end();
    // The workers were lost as they answered: their answer is nobody's any more.
    if (this.#loss.failure !== null) return;
    tracer.begin("deliver");
    this.#conclude(result, scheduledMs);
    tracer.end();
    tracer.end();
    this.#profile?.endStep({
      numTokens: step.scheduled.map(({ numTokens }) => numTokens),
      spans: result.spans ?? [],
    });
  }

  /** Makes what a step brought known to those whom it concerns. */
  #conclude(result: StepResultMessage, scheduledMs: number): void {
    const events = this.#scheduler.update(result);
    if (result.sparse != null) {
      this.#sparse?.receive(result.sparse, (seqId) => this.#owners.get(seqId)?.requestId);
    }
    this.#noteStarts(this.#scheduler.takeLateStarts(), scheduledMs);
    this.#handleLoadFailures(this.#scheduler.takeLoadFailures());
    this.#deliver(events, result);
  }

  #noteStarts(started: readonly StartedSequence[], scheduledMs: number): void {
    for (const sequence of started) {
      const { seqId, promptLength, numCachedTokens } = sequence;
      const live = this.#owners.get(seqId);
      if (live?.markScheduled(scheduledMs, numCachedTokens)) {
        logPrefix(live.requestId, sequence, this.#config);
      }
      this.#totals.promptTokens += promptLength;
      this.#steps.started(sequence);
      this.#meter?.scheduled(sequence, scheduledMs);
    }
  }

  /** Masks for the sequences of the step that must match a grammar; null when none must. */
  #masksOf({ scheduled }: StepMessage) {
    const due = scheduled.map(({ seqId, numComputedTokens, numTokens }) => ({
      seqId,
      end: numComputedTokens + numTokens,
    }));
    return this.#grammars?.masks(due) ?? null;
  }

  #handleLoadFailures(failures: readonly LoadFailure[]): void {
    for (const failure of failures) {
      const live = this.#owners.get(failure.seqId);
      if (live === undefined) continue;
      logLoadFailure(live.requestId, failure);
      if (failure.isFatal) this.#fail(live, loadFailureError(failure));
    }
  }

  #deliver(events: readonly SequenceEvent[], result: StepResultMessage): void {
    const nowMs = this.#clock();
    this.#totals.generatedTokens += events.length;
    for (const rows of result.promptLogprobs) {
      this.#owners.get(rows.seqId)?.addPromptLogprobs(rows);
    }
    for (const { seqId, error } of result.failed) {
      const live = this.#owners.get(seqId);
      // One that the scheduler still has was computed in vain, behind a load that failed.
      if (live === undefined || this.#scheduler.has(seqId)) continue;
      this.#fail(live, UcmError.fromJSON(error));
    }
    for (const event of events) {
      const live = this.#owners.get(event.seqId);
      if (live === undefined) continue;
      this.#grammars?.advance(event.seqId, event.tokenId);
      this.#meter?.gotToken(event.seqId, nowMs);
      try {
        const finishReason = live.addToken(event, nowMs);
        // A stop string ends a sequence that the scheduler would go on with.
        if (finishReason !== null) {
          this.#scheduler.abort(event.seqId);
          this.#grammars?.close(event.seqId);
          this.#meter?.ended(event.seqId, finishReason);
        }
        if (live.isDone) this.#unregister(live);
      } catch (error) {
        // What goes wrong with the text of one request is no matter of the others.
        this.#fail(live, toUcmError(error));
      }
    }
  }

  /**
   * Ends every request of lost workers with the reason. Those of which nobody has seen a token wait for
   * other workers instead, once; a scheduler that knows nothing of the old ones serves them.
   */
  #lose(error: UcmError): void {
    if (this.#loss.failure !== null) return;
    const reason = this.#loss.note(error);
    const recovers = this.#loss.canRecover && !this.#isClosed;
    for (const live of [...this.#live.keys()]) {
      if (recovers && live.canRestart) this.#dequeue(live);
      else this.#fail(live, reason);
    }
    if (!recovers) return;
    this.#past = this.#schedulerStats();
    this.#scheduler = createScheduler(this.#config);
    this.#storeReports.endWorkers();
    this.#sparse?.endWorkers();
    this.#loss.recover(error, this.#loop, {
      resume: () => {
        for (const live of [...this.#live.keys()]) this.#restart(live);
      },
      giveUp: (final) => {
        for (const live of [...this.#live.keys()]) this.#fail(live, final);
      },
    });
  }

  #refuseWhileDown(): void {
    if (this.#isClosed) {
      throw new UcmError(
        "UCM_ERR_SHUTTING_DOWN",
        "The server is shutting down and takes no new requests. Please retry elsewhere, or later.",
      );
    }
    this.#loss.requireWorkers();
  }

  #schedulerStats(): SchedulerStats {
    return carryOn(this.#past, this.#scheduler.stats(), kindOfCount);
  }

  #restart(live: LiveRequest): void {
    this.#dequeue(live);
    const before = live.sequences;
    live.restart(this.#nextSeqId);
    this.#meter?.restarted(before, live.sequences);
    this.#nextSeqId += live.sequences.length;
    // The queue may be full: those that ran before wait now as well.
    if (this.#pause === null) this.#enqueueOrFail(live);
    else this.#pause.defer(live, () => this.#enqueueOrFail(live));
  }

  #fail(live: LiveRequest, error: UcmError): void {
    this.#unregister(live);
    live.fail(error);
  }
}
