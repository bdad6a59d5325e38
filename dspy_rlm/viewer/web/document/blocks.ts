/**
 * The page's inert blocks: base64 of zlib-deflated bytes, inflated when they are needed.
 */

/** Returns the content of a block of the page by the id of its element; null if there is none. */
export function blockOf(id: string): string | null {
  return document.getElementById(id)?.textContent ?? null;
}

/** Returns the bytes that a block holds. */
export async function inflate(base64: string): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = decode(base64.trim());
  const stream = new Response(bytes).body?.pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream ?? null).arrayBuffer());
}

interface FromBase64 {
  fromBase64?(text: string): Uint8Array<ArrayBuffer>;
}

function decode(base64: string): Uint8Array<ArrayBuffer> {
  const native = (Uint8Array as FromBase64).fromBase64;
  if (native !== undefined) {
    return native.call(Uint8Array, base64);
  }
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let index = 0; index < binary.length; index++) {
    bytes[index] = binary.charCodeAt(index);
  }
  return bytes;
}
