// Screenshots with 256 colours in place of all: flat pictures and text lose nothing that is seen, and the files are a third.

import { deflateSync, inflateSync } from "node:zlib";

/** A PNG of Chromium (8 bits, red, green and blue, with or without alpha) as one with a palette. */
export function withPalette(png) {
  const { width, height, pixels, bytes } = decoded(png);
  const counts = new Map();
  // Steps of 4 of 255: nobody sees them, and they make one colour of nearly equal ones.
  const colourAt = (at) => ((pixels[at] & 0xfc) << 16) | ((pixels[at + 1] & 0xfc) << 8) | (pixels[at + 2] & 0xfc);
  for (let at = 0; at < pixels.length; at += bytes) counts.set(colourAt(at), (counts.get(colourAt(at)) ?? 0) + 1);
  const palette = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 256).map(([colour]) => colour);
  const places = new Map([...counts.keys()].map((colour) => [colour, nearest(palette, colour)]));
  const rows = Buffer.alloc(height * (width + 1));
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) rows[y * (width + 1) + 1 + x] = places.get(colourAt((y * width + x) * bytes));
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 3], 8);
  const channels = palette.flatMap((colour) => [16, 8, 0].map((shift) => whole((colour >> shift) & 0xff)));
  const parts = [chunk("IHDR", header), chunk("PLTE", Buffer.from(channels)), chunk("IDAT", deflateSync(rows, { level: 9 }))];
  return Buffer.concat([png.subarray(0, 8), ...parts, chunk("IEND", Buffer.alloc(0))]);
}

/** White stays white: the step's two lowest bits are those of its highest. */
const whole = (channel) => channel | (channel >> 6);

function nearest(palette, colour) {
  const [r, g, b] = [16, 8, 0].map((shift) => (colour >> shift) & 0xff);
  const distance = (other) => ((other >> 16) - r) ** 2 + (((other >> 8) & 0xff) - g) ** 2 + ((other & 0xff) - b) ** 2;
  let best = 0;
  palette.forEach((other, place) => {
    if (distance(other) < distance(palette[best])) best = place;
  });
  return best;
}

function decoded(png) {
  const [width, height] = [png.readUInt32BE(16), png.readUInt32BE(20)];
  const bytes = { 2: 3, 6: 4 }[png[25]];
  if (png[24] !== 8 || bytes === undefined || png[28] !== 0) throw new Error(`a PNG of ${png[24]} bits and colour type ${png[25]}`);
  const parts = [];
  for (let at = 8; at < png.length; at += 12 + png.readUInt32BE(at)) {
    if (png.toString("latin1", at + 4, at + 8) === "IDAT") parts.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
  }
  const raw = inflateSync(Buffer.concat(parts));
  const line = width * bytes;
  const pixels = Buffer.alloc(height * line);
  for (let y = 0; y < height; y += 1) {
    const filter = raw[y * (line + 1)];
    for (let k = 0; k < line; k += 1) {
      const at = y * line + k;
      const left = k >= bytes ? pixels[at - bytes] : 0;
      const above = y > 0 ? pixels[at - line] : 0;
      const corner = k >= bytes && y > 0 ? pixels[at - line - bytes] : 0;
      const guess = [0, left, above, (left + above) >> 1, paeth(left, above, corner)][filter];
      pixels[at] = raw[y * (line + 1) + 1 + k] + guess;
    }
  }
  return { width, height, pixels, bytes };
}

function paeth(left, above, corner) {
  const [a, b, c] = [left, above, corner].map((value) => Math.abs(left + above - corner - value));
  return a <= b && a <= c ? left : b <= c ? above : corner;
}

/** The checksum of a chunk, bit by bit: older versions of node have none. */
function crc32(data) {
  let rest = 0xffffffff;
  for (const byte of data) {
    rest ^= byte;
    for (let bit = 0; bit < 8; bit += 1) rest = (rest >>> 1) ^ (rest & 1 ? 0xedb88320 : 0);
  }
  return ~rest >>> 0;
}

function chunk(name, data) {
  const named = Buffer.concat([Buffer.from(name, "latin1"), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(named));
  return Buffer.concat([length, named, sum]);
}
