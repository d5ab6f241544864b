/** Conversion of recorded audio for the server: 16 kHz, 16-bit mono. */

export const SAMPLE_RATE_HZ = 16_000;

/**
 * Resamples to 16 kHz; each output sample is the mean of the input samples it replaces.
 * @param {Float32Array[]} blocks samples in -1 to 1
 * @param {number} rateHz
 * @returns {Int16Array<ArrayBuffer>}
 */
export function resample(blocks, rateHz) {
  const input = new Float32Array(blocks.reduce((sum, block) => sum + block.length, 0));
  let length = 0;
  for (const block of blocks) {
    input.set(block, length);
    length += block.length;
  }
  const step = rateHz / SAMPLE_RATE_HZ, output = new Int16Array(Math.floor(length / step));
  for (let n = 0; n < output.length; n++) {
    const from = Math.floor(n * step), to = Math.max(from + 1, Math.floor((n + 1) * step));
    let sum = 0;
    for (let k = from; k < to; k++) sum += input[k];
    output[n] = Math.max(-1, Math.min(1, sum / (to - from))) * 32767;
  }
  return output;
}

/**
 * Returns a wav file.
 * @param {Int16Array<ArrayBuffer>} samples at 16 kHz
 */
export function encodeWav(samples) {
  const header = new DataView(new ArrayBuffer(44)), size = samples.byteLength;
  /** @type {(offset: number, text: string) => void} */
  const writeText = (offset, text) => [...text].forEach((char, n) => header.setUint8(offset + n, char.charCodeAt(0)));
  writeText(0, "RIFF");
  header.setUint32(4, 36 + size, true);
  writeText(8, "WAVEfmt ");
  header.setUint32(16, 16, true); // size of the format chunk
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, SAMPLE_RATE_HZ, true);
  header.setUint32(28, SAMPLE_RATE_HZ * 2, true); // bytes per second
  header.setUint16(32, 2, true); // bytes per frame
  header.setUint16(34, 16, true); // bits per sample
  writeText(36, "data");
  header.setUint32(40, size, true);
  return new Blob([header.buffer, samples.buffer], { type: "audio/wav" });
}
