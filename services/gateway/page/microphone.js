/** Push-to-talk: records while a button is held, then transcribes the recording or sends it as audio. */

import { api } from "./api.js";
import { encodeWav, resample, SAMPLE_RATE_HZ } from "./audio.js";
import { byId, showNotice, showProblem, showStatus } from "./ui.js";

const MIN_RECORDING_S = 0.2;
/** Samples per WebSocket message: 2 s. */
const CHUNK_SAMPLES = 32_000;
const TRANSCRIPTION_TIMEOUT_MS = 60_000;
/** Notices by the error of getUserMedia. */
const REFUSALS = {
  NotAllowedError: ["The microphone is not allowed.", "Allow it in the browser’s address bar, or type."],
  NotFoundError: ["There is no microphone.", "Plug one in, or type."],
  SecurityError: ["The microphone needs a safe connection.", "Open this page by https or on localhost, or type."],
};

export class Microphone {
  /** @param {import("./conversation.js").Conversation} conversation */
  constructor(conversation) {
    this.conversation = conversation;
    this.recording = false;
    /** @type {Float32Array[] | null} */
    this.blocks = null;
    /** @type {MediaStream | null} */
    this.stream = null;
    /** @type {AudioContext | null} */
    this.context = null;
  }

  /** Starts recording and interrupts the current speech. */
  async start() {
    if (this.recording) return;
    this.recording = true;
    byId("hold").setAttribute("aria-pressed", "true");
    byId("hold").textContent = "Listening …";
    this.conversation.interrupt();
    try {
      if (!navigator.mediaDevices) throw new DOMException("", "SecurityError");
      const audio = { channelCount: 1, echoCancellation: true, noiseSuppression: true };
      this.stream = await navigator.mediaDevices.getUserMedia({ audio });
      this.context = new AudioContext();
      await this.context.audioWorklet.addModule("worklet.js");
      const node = new AudioWorkletNode(this.context, "recorder", { numberOfOutputs: 0 });
      this.blocks = [];
      node.port.onmessage = (message) => this.blocks?.push(message.data);
      this.context.createMediaStreamSource(this.stream).connect(node);
      if (!this.recording) this.#release();
    } catch (error) {
      this.recording = false;
      this.#release();
      const [title, text] = REFUSALS[error.name] ||
        ["The microphone cannot be used.", `${error.message || error.name}. You can type.`];
      showNotice(title, text);
    }
  }

  /** Stops recording and sends the recording. */
  async stop() {
    if (!this.recording) return;
    this.recording = false;
    const { blocks } = this, rateHz = this.context?.sampleRate;
    this.#release();
    if (!blocks?.length) return;
    const samples = resample(blocks, rateHz);
    if (samples.length < SAMPLE_RATE_HZ * MIN_RECORDING_S) {
      showNotice("That was too short.", "Hold the button for as long as you speak.");
      return;
    }
    if (api.config.transcriptions) await this.#transcribe(samples);
    else this.conversation.sendAudio(samples, CHUNK_SAMPLES); // spoken back in the user's own voice
  }

  #release() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.context?.close().catch(() => {});
    this.stream = this.context = this.blocks = null;
    byId("hold").setAttribute("aria-pressed", "false");
    byId("hold").textContent = "Hold to talk";
  }

  /** @param {Int16Array<ArrayBuffer>} samples */
  async #transcribe(samples) {
    showStatus("Understanding …");
    try {
      const options = { type: "audio/wav", timeoutMs: TRANSCRIPTION_TIMEOUT_MS };
      const { text } = await api.post("/v1/transcriptions", encodeWav(samples), options);
      showStatus("Live", "on");
      if (text) this.conversation.ask(text);
      else showNotice("Nothing was understood.", "Try again a little louder.");
    } catch (error) {
      showStatus("Live", "on");
      showProblem(error);
    }
  }
}

/**
 * Records while the button is held by pointer or key; a click of a screen reader starts and stops.
 * @param {HTMLElement} button
 * @param {Microphone} microphone
 */
export function holdToTalk(button, microphone) {
  let held = false;
  /** @param {Event} event */
  const press = (event) => {
    held = true;
    event.preventDefault();
    microphone.start();
  };
  const release = () => {
    if (held) microphone.stop();
    setTimeout(() => {
      held = false;
    });
  };
  button.onpointerdown = (event) => {
    button.focus();
    press(event);
  };
  window.addEventListener("pointerup", release);
  window.addEventListener("pointercancel", release);
  button.onkeydown = (event) => {
    if (![" ", "Enter"].includes(event.key)) return;
    event.preventDefault();
    if (!event.repeat) press(event);
  };
  button.onkeyup = (event) => {
    if (![" ", "Enter"].includes(event.key)) return;
    event.preventDefault();
    release();
  };
  button.onblur = release;
  button.onclick = () => {
    if (held) return;
    if (microphone.recording) microphone.stop();
    else microphone.start();
  };
  button.oncontextmenu = (event) => event.preventDefault();
}
