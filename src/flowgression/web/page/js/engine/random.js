// PyTorch's generator on the CPU: the Mersenne Twister, and the normal numbers that torch.randn makes of it.

const SIZE = 624, PERIOD = 397;

export class Generator {
  #state = new Uint32Array(SIZE);
  #index = SIZE;

  /** As torch.Generator().manual_seed(seed) for a whole number or a BigInt; its low 32 bits count. */
  constructor(seed) {
    const s = this.#state;
    s[0] = Number(BigInt.asUintN(32, BigInt(seed)));
    for (let i = 1; i < SIZE; i++) s[i] = Math.imul(1812433253, s[i - 1] ^ (s[i - 1] >>> 30)) + i;
  }

  /** 32 random bits. */
  bits() {
    if (this.#index === SIZE) this.#refill();
    let y = this.#state[this.#index++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** torch.randint(0, 2**63 - 1, ()): what the samplers draw as the seed of one picture. */
  imageSeed() {
    const high = BigInt(this.bits()), low = BigInt(this.bits());
    return ((high << 32n) | low) % (2n ** 63n - 1n);
  }

  /** torch.randn of `count` >= 16 numbers, up to the rounding of float32. */
  normal(count) {
    if (count < 16) throw new RangeError(`normal(${count}): torch draws fewer than 16 numbers in another way`);
    const values = Float32Array.from({ length: count }, () => this.#uniform());
    for (let start = 0; start + 16 <= count; start += 16) boxMuller(values, start);
    if (count % 16) {
      const start = count - 16;
      for (let i = start; i < count; i++) values[i] = this.#uniform();
      boxMuller(values, start);
    }
    return values;
  }

  #uniform() {
    return (this.bits() & 0xffffff) / 0x1000000;
  }

  #refill() {
    const s = this.#state;
    for (let i = 0; i < SIZE; i++) {
      const y = (s[i] & 0x80000000) | (s[(i + 1) % SIZE] & 0x7fffffff);
      s[i] = s[(i + PERIOD) % SIZE] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.#index = 0;
  }
}

/** Sixteen uniform numbers, the first eight and the last eight as pairs, into normal ones. */
function boxMuller(values, start) {
  for (let j = start; j < start + 8; j++) {
    const radius = Math.sqrt(-2 * Math.log(Math.fround(1 - values[j]))), angle = 2 * Math.PI * values[j + 8];
    values[j] = radius * Math.cos(angle);
    values[j + 8] = radius * Math.sin(angle);
  }
}

/** The generator of the one picture of `flowgression sample --seed SEED`. */
export const pictureGenerator = (seed) => new Generator(new Generator(seed).imageSeed());
