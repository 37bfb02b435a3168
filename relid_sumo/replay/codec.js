// Reads the arrays that packing.py writes. All numbers are little-endian.

async function inflate(text) {
  const coded = atob(text), bytes = new Uint8Array(coded.length);
  for (let i = 0; i < coded.length; i++) bytes[i] = coded.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

const numbers = async (kind, text) => new kind(await inflate(text));
const lines = async (text) => new TextDecoder().decode(await inflate(text)).split("\n");

// Undoes second_differences: `starts` are the indices at which tracks begin, and after them the end.
async function coordinates(text, starts) {
  const coded = new Uint8Array(await inflate(text)), n = coded.length / 2, values = new Uint16Array(n);
  for (let track = 0; track + 1 < starts.length; track++) {
    let speed = 0, value = 0;
    for (let i = starts[track]; i < starts[track + 1]; i++) {
      const zigzag = coded[i] | (coded[n + i] << 8);
      speed = (speed + ((zigzag >>> 1) ^ -(zigzag & 1))) & 65535;
      value = (value + speed) & 65535;
      values[i] = value;
    }
  }
  return values;
}
