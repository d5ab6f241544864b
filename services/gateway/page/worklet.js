/** Audio worklet of the microphone: posts each block of the first channel to the page. */

class RecorderProcessor extends AudioWorkletProcessor {
  /** @param {Float32Array[][]} inputs */
  process([input]) {
    if (input[0]?.length) this.port.postMessage(input[0].slice());
    return true;
  }
}

registerProcessor("recorder", RecorderProcessor);
