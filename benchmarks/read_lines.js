// Stands in for the one import of DSPy's runner.js that comes from deno.land; see peer.py.
// Reads in pieces as large as a pipe delivers, so that the peer loses nothing by the exchange.

const PIPE_BYTES = 64 * 1024;
const NEWLINE = 10;

/** The lines of a reader as text, without their newline; a last line may lack it. */
export async function* readLines(reader) {
  const buffer = new Uint8Array(PIPE_BYTES);
  const decoder = new TextDecoder();
  let pieces = [];
  for (let count = await reader.read(buffer); count !== null; count = await reader.read(buffer)) {
    const received = buffer.subarray(0, count);
    let start = 0;
    for (
      let end = received.indexOf(NEWLINE);
      end !== -1;
      end = received.indexOf(NEWLINE, start)
    ) {
      pieces.push(decoder.decode(received.subarray(start, end)));
      yield pieces.join("");
      pieces = [];
      start = end + 1;
    }
    pieces.push(decoder.decode(received.subarray(start), { stream: true }));
  }
  const rest = pieces.join("") + decoder.decode();
  if (rest !== "") yield rest;
}
