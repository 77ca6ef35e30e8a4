/** Converts between bytes of messages and typed arrays: docs/protocol.md, Tensors. */

import type { Ids, Triples } from "./generated/negserve/v1/sampler.js";

/** Triples as three columns of equal length n. Ids are below 2^32. */
export interface TripleColumns {
  heads: Uint32Array;
  relations: Uint32Array;
  tails: Uint32Array;
}

/** Decodes a tensor of ids; an absent message is empty. */
export function decodeIds(ids: Ids | undefined): Uint32Array {
  if (ids === undefined || ids.data.length === 0) {
    return new Uint32Array();
  }
  const { data, width } = ids;
  if (![1, 2, 4, 8].includes(width) || data.length % width !== 0) {
    throw new RangeError(`${data.length} bytes are not ids of width ${width}`);
  }
  // A DataView, since the bytes of a message may begin at any address.
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const read: (offset: number) => number = {
    1: (offset: number) => view.getUint8(offset),
    2: (offset: number) => view.getUint16(offset, true),
    4: (offset: number) => view.getUint32(offset, true),
    8: (offset: number) => narrow(view.getBigUint64(offset, true)),
  }[width as 1 | 2 | 4 | 8];
  return Uint32Array.from({ length: data.length / width }, (_, i) => read(i * width));
}

function narrow(id: bigint): number {
  if (id >= 2n ** 32n) {
    throw new RangeError(`id ${id} is not below 2^32`);
  }
  return Number(id);
}

/** Encodes ids in the narrowest width that fits them. */
export function encodeIds(ids: Uint32Array): Ids {
  const largest = ids.reduce((most, id) => Math.max(most, id), 0);
  const width = largest < 2 ** 8 ? 1 : largest < 2 ** 16 ? 2 : 4;
  const data = Buffer.alloc(ids.length * width);
  ids.forEach((id, i) => data.writeUIntLE(id, i * width, width));
  return { data, width };
}

/** Decodes three columns. */
export function decodeTriples(triples: Triples | undefined): TripleColumns {
  return {
    heads: decodeIds(triples?.heads),
    relations: decodeIds(triples?.relations),
    tails: decodeIds(triples?.tails),
  };
}

/** Encodes the rows `begin` to `end` of three columns. */
export function encodeTriples(triples: TripleColumns, begin: number, end: number): Triples {
  return {
    heads: encodeIds(triples.heads.subarray(begin, end)),
    relations: encodeIds(triples.relations.subarray(begin, end)),
    tails: encodeIds(triples.tails.subarray(begin, end)),
  };
}

/** Unpacks flags, 8 per byte, lowest bit first; an empty tensor is all ones. */
export function decodeFlags(data: Uint8Array, count: number): Uint8Array {
  const flag = (m: number): number => (data[m >> 3]! >> (m & 7)) & 1;
  return Uint8Array.from({ length: count }, (_, m) => (data.length === 0 ? 1 : flag(m)));
}

/** Decodes binary32 numbers. */
export function decodeFloats(data: Uint8Array): Float32Array {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  return Float32Array.from({ length: data.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}
