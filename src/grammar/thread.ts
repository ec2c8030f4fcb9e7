import { parentPort, workerData } from "node:worker_threads";
import { GrammarHost } from "./grammar-host.js";
import type { FromGrammarThread, GrammarVocabulary, ToGrammarThread } from "./protocol.js";

/** Entry of a thread that compiles grammars and computes masks; it answers in order. */
const host = GrammarHost.create(workerData as GrammarVocabulary);

function send(message: FromGrammarThread): void {
  parentPort!.postMessage(message);
}

async function handle(message: ToGrammarThread): Promise<void> {
  const grammars = await host;
  switch (message.type) {
    case "compile": {
      const { key } = message.grammar;
      const error = await grammars.check(message.grammar).then(
        () => null,
        (failure: Error) => failure.message,
      );
      return send({ type: "compiled", key, error, isLost: grammars.isLost });
    }
    case "open":
      return sendMask(message, grammars.open(message.seqId, message.grammar));
    case "advance":
      return sendMask(message, grammars.advance(message.seqId, message.tokenId));
    case "close":
      return grammars.close(message.seqId);
  }
}

async function sendMask(
  { seqId, turn }: { seqId: number; turn: number },
  computed: Promise<Int32Array | null>,
): Promise<void> {
  try {
    const mask = await computed;
    if (mask !== null) send({ type: "mask", seqId, turn, mask });
  } catch (error) {
    const { isLost } = await host;
    if (!isLost) (await host).close(seqId);
    send({ type: "broken", seqId, turn, error: (error as Error).message, isLost });
  }
}

let turn: Promise<void> = Promise.resolve();
parentPort!.on("message", (message: ToGrammarThread) => {
  turn = turn.then(() => handle(message));
});
