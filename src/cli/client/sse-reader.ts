import { StringDecoder } from "node:string_decoder";

/**
 * The `data` of each server-sent event of a stream, as it arrives; several data lines of one event
 * are joined by line ends. Comments and other fields are passed over.
 */
export async function* readEvents(stream: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  let data: string[] = [];
  for await (const piece of stream) {
    const lines = (rest + decoder.write(piece)).split("\n");
    rest = lines.pop()!;
    for (const written of lines) {
      const line = written.endsWith("\r") ? written.slice(0, -1) : written;
      if (line === "") {
        if (data.length > 0) yield data.join("\n");
        data = [];
      } else if (line.startsWith("data:")) {
        data.push(line.slice(line.startsWith("data: ") ? 6 : 5));
      }
    }
  }
  // A server that ends right after its last line means that event, too.
  if (rest.startsWith("data:")) data.push(rest.slice(5).trim());
  if (data.length > 0) yield data.join("\n");
}
