/** Just enough of a MessagePack reader to compare the vectors' two spellings. */

export function unpack(bytes: Uint8Array): unknown {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const take = (size: number) => {
    at += size;
    return at - size;
  };
  const text = (size: number) =>
    new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(at, take(size) + size));
  const list = (size: number) => Array.from({ length: size }, () => read());
  const map = (size: number) => Object.fromEntries(Array.from({ length: size }, () => [String(read()), read()]));
  const read = (): unknown => {
    const tag = view.getUint8(take(1));
    if (tag <= 0x7f) return tag;
    if (tag <= 0x8f) return map(tag & 0x0f);
    if (tag <= 0x9f) return list(tag & 0x0f);
    if (tag <= 0xbf) return text(tag & 0x1f);
    if (tag >= 0xe0) return tag - 0x100;
    switch (tag) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xcb:
        return view.getFloat64(take(8));
      case 0xcc:
        return view.getUint8(take(1));
      case 0xcd:
        return view.getUint16(take(2));
      case 0xce:
        return view.getUint32(take(4));
      case 0xd9:
        return text(view.getUint8(take(1)));
      case 0xda:
        return text(view.getUint16(take(2)));
      default:
        throw new Error(`a MessagePack tag that no vector has: ${tag.toString(16)}`);
    }
  };
  const value = read();
  if (at !== bytes.byteLength) throw new Error("bytes are left over");
  return value;
}
