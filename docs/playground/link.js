// A spec in the fragment of a link: JSON, deflated, in base64 as URLs take it.

export const MAX_TEXT = 50_000; // characters of a spec

const through = (data, stream) => new Blob([data]).stream().pipeThrough(stream);

export async function fragmentOf(spec) {
  const stream = through(JSON.stringify(spec), new CompressionStream("deflate-raw"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const letters = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return btoa(letters).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

// The spec of a fragment; null if it holds none. Of what unpacks to more than a spec, no more is read.
export async function specOf(fragment) {
  try {
    const letters = atob(fragment.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
    const reader = through(bytes, new DecompressionStream("deflate-raw")).getReader();
    const decoder = new TextDecoder();
    let json = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      json += decoder.decode(part.value, { stream: true });
      if (json.length > 8 * MAX_TEXT) return null;
    }
    const { name, text } = JSON.parse(json);
    const isSpec = typeof name === "string" && typeof text === "string" && text.length <= MAX_TEXT;
    return isSpec ? { name, text } : null;
  } catch {
    return null;
  }
}
