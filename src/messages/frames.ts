import { deserialize, serialize } from "node:v8";
import { UcmError } from "../errors/index.js";

/** Where a worker inherits the socket on which it speaks with its parent. */
export const MESSAGE_DESCRIPTOR = 4;

/** First bytes of every frame. */
const MAGIC = 0x75636d31;
const HEADER_BYTES = 8;
/** A longer message is none: log-probabilities of a whole vocabulary for a long prompt are below. */
const MAX_BYTES = 2 ** 31 - 1;

/** A message as bytes: uint32 magic, uint32 length, little-endian, and V8's serialization of it. */
export function encodeFrame(message: unknown): Buffer {
  const body = serialize(message);
  const frame = Buffer.allocUnsafe(HEADER_BYTES + body.length);
  frame.writeUInt32LE(MAGIC, 0);
  frame.writeUInt32LE(body.length, 4);
  body.copy(frame, HEADER_BYTES);
  return frame;
}

/**
 * Finds messages in the bytes that arrive. Unlike Node's own channel between processes, whose reader
 * throws where nobody can catch it, it says when the other side writes something else.
 */
export class FrameReader {
  #chunks: Buffer[] = [];
  #length = 0;

  /**
   * The messages that `chunk` completes.
   * @throws UcmError UCM_ERR_WORKER for bytes that are no message; the reader is of no more use then.
   */
  push(chunk: Buffer): unknown[] {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    const messages: unknown[] = [];
    for (let body = this.#take(); body !== null; body = this.#take()) {
      messages.push(decode(body));
    }
    return messages;
  }

  /** The next body, null when it is not all there. */
  #take(): Buffer | null {
    if (this.#length < HEADER_BYTES) return null;
    const head = this.#chunks[0]!.length < HEADER_BYTES ? this.#join() : this.#chunks[0]!;
    const bodyBytes = head.readUInt32LE(4);
    if (head.readUInt32LE(0) !== MAGIC || bodyBytes > MAX_BYTES) throw garbage();
    const end = HEADER_BYTES + bodyBytes;
    if (this.#length < end) return null;
    const bytes = this.#join();
    this.#chunks = bytes.length > end ? [bytes.subarray(end)] : [];
    this.#length -= end;
    return bytes.subarray(HEADER_BYTES, end);
  }

  #join(): Buffer {
    const [first] = this.#chunks;
    const joined = this.#chunks.length === 1 ? first! : Buffer.concat(this.#chunks);
    this.#chunks = [joined];
    return joined;
  }
}

function decode(body: Buffer): unknown {
  try {
    return deserialize(body);
  } catch (error) {
    throw garbage(error);
  }
}

function garbage(cause?: unknown): UcmError {
  return new UcmError("UCM_ERR_WORKER", "wrote something that is no message.", { cause });
}
