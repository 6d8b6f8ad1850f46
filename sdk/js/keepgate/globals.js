// Globals that JavaScript programs expect and QuickJS lacks, or would take from the machine that compiled the component:
// UTF-8, the clock, random numbers, the console. All of them use the contract, so that a component imports nothing else
// and a test controls what it sees. Keep additions small: they are part of every component.

/** The bytes of a text; a surrogate without its other half becomes U+FFFD. */
export function encodeUtf8(text) {
  // A code unit becomes at most three bytes, a pair of them four.
  const bytes = new Uint8Array(text.length * 3);
  let at = 0;
  for (const character of text) {
    let code = character.codePointAt(0);
    if (code >= 0xd800 && code <= 0xdfff) {
      code = 0xfffd;
    }
    if (code < 0x80) {
      bytes[at++] = code;
      continue;
    }
    if (code < 0x800) {
      bytes[at++] = 0xc0 | (code >> 6);
    } else {
      if (code < 0x10000) {
        bytes[at++] = 0xe0 | (code >> 12);
      } else {
        bytes[at++] = 0xf0 | (code >> 18);
        bytes[at++] = 0x80 | ((code >> 12) & 0x3f);
      }
      bytes[at++] = 0x80 | ((code >> 6) & 0x3f);
    }
    bytes[at++] = 0x80 | (code & 0x3f);
  }
  return bytes.slice(0, at);
}

// By the number of leading ones of the first byte: its payload, and the least that is not overlong.
const LEADS = [[0x80, 0x00, 1, 0], [0xe0, 0xc0, 2, 0x80], [0xf0, 0xe0, 3, 0x800], [0xf8, 0xf0, 4, 0x10000]];
const PIECE = 4096;

/** Decodes UTF-8. For a malformed byte `malformed` returns a replacement, or throws. */
export function decodeUtf8(bytes, malformed = () => 0xfffd) {
  const texts = [];
  let codes = [];
  for (let at = 0; at < bytes.length;) {
    const [code, length] = sequence(bytes, at) ?? [malformed(), 1];
    codes.push(code);
    at += length;
    if (codes.length === PIECE) {
      texts.push(String.fromCodePoint(...codes));
      codes = [];
    }
  }
  texts.push(String.fromCodePoint(...codes));
  return texts.join("");
}

/** The code point that begins at a position, and its length in bytes; null if there is none. */
function sequence(bytes, at) {
  const first = bytes[at];
  const lead = LEADS.find(([mask, ones]) => (first & mask) === ones);
  if (lead === undefined) {
    return null;
  }
  const [mask, , length, least] = lead;
  let code = first & ~mask & 0xff;
  for (let index = 1; index < length; index++) {
    const byte = bytes[at + index];
    if (byte === undefined || (byte & 0xc0) !== 0x80) {
      return null;
    }
    code = (code << 6) | (byte & 0x3f);
  }
  const isSurrogate = code >= 0xd800 && code <= 0xdfff;
  return code < least || code > 0x10ffff || isSurrogate ? null : [code, length];
}

class Encoder {
  encoding = "utf-8";

  encode(text = "") {
    return encodeUtf8(String(text));
  }
}

class Decoder {
  encoding = "utf-8";

  constructor(label = "utf-8", { fatal = false } = {}) {
    if (!/^utf-?8$/i.test(label)) {
      throw new RangeError(`only UTF-8 is known here, not ${label}`);
    }
    this.fatal = fatal;
  }

  decode(bytes = new Uint8Array()) {
    const view = bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : bytes;
    const refuse = () => {
      throw new TypeError("these bytes are not UTF-8");
    };
    return decodeUtf8(view, this.fatal ? refuse : undefined);
  }
}

/** Installs them. `environment` is the contract's interface of that name. */
export function installGlobals(environment) {
  globalThis.TextEncoder ??= Encoder;
  globalThis.TextDecoder ??= Decoder;
  installClock(environment);
  // QuickJS would start each instance with the same seed: that of the machine that compiled it.
  Math.random = () => {
    const [a, b, c, d, e, f, g] = environment.random(7);
    const high = a * 2 ** 16 + b * 2 ** 8 + c;
    const low = d * 2 ** 21 + e * 2 ** 13 + f * 2 ** 5 + (g >> 3);
    return (high * 2 ** 29 + low) / 2 ** 53;
  };
  const print = (level) => (...values) => environment.log(level, values.map(shown).join(" "), []);
  globalThis.console = {
    debug: print("debug"), log: print("info"), info: print("info"), warn: print("warn"), error: print("error"),
  };
}

function installClock(environment) {
  const Original = globalThis.Date;
  const milliseconds = () => Math.trunc(environment.now() / 1e6);
  class Clock extends Original {
    constructor(...given) {
      super(...(given.length === 0 ? [milliseconds()] : given));
    }

    static now() {
      return milliseconds();
    }
  }
  // Date without `new` returns a text: a class cannot be called like that.
  globalThis.Date = new Proxy(Clock, { apply: () => new Clock().toString() });
}

function shown(value) {
  if (typeof value === "string" || value instanceof Error) {
    return String(value);
  }
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}
