/** Player of the live video: fragments through MediaSource close to the live edge, or a plain <video> URL. */

/** A plain video without progress for this long has lost its connection. */
const STALL_MS = 5000;
/** Range of the margin between the player and the end of the buffer, in seconds; grows with each stall. */
const MIN_MARGIN_S = 0.2, MAX_MARGIN_S = 1;
const MARGIN_STEP_S = 0.1;
/** Buffered video before the player's position: removed from 40 s on, down to 20 s. */
const MAX_BEHIND_S = 40, KEEP_BEHIND_S = 20;
const MOOF = 0x6d6f6f66;
// ManagedMediaSource: iPhones
const MediaSourceClass = globalThis.MediaSource ?? /** @type {any} */ (globalThis).ManagedMediaSource;

/**
 * @typedef {object} PlayerHandlers
 * @property {() => void} onPlaying
 * @property {(what: "" | "sound" | "start") => void} onBlocked the browser refuses sound, or any playback; "" for neither
 * @property {() => void} onDecodeError the stream cannot go on; a new one is needed
 * @property {() => void} onPlainLost the connection of a plain video is lost
 */

export class LivePlayer {
  /**
   * @param {HTMLVideoElement} video
   * @param {PlayerHandlers} handlers
   */
  constructor(video, handlers) {
    this.video = video;
    this.handlers = handlers;
    this.lastTimeS = 0;
    this.#reset(0);
    video.disableRemotePlayback = true; // required by ManagedMediaSource
    video.addEventListener("playing", () => {
      this.hasPlayed = true;
      handlers.onBlocked("");
      handlers.onPlaying();
    });
    video.addEventListener("loadedmetadata", () => this.#seekToStart());
    video.addEventListener("seeking", () => {
      this.startSought = true;
      this.#appendNext();
    });
    video.addEventListener("seeked", () => video.classList.remove("early"));
    for (const event of ["error", "ended"]) video.addEventListener(event, () => this.#handleFailure());
    video.addEventListener("waiting", () => this.#raiseMargin());
    setInterval(() => this.#followLiveEdge(), 100);
  }

  /** @param {string} mimeType */
  static canPlayFragments(mimeType) {
    return Boolean(MediaSourceClass?.isTypeSupported(mimeType));
  }

  /**
   * Starts a stream of fragments.
   * @param {string} mimeType
   * @param {number} startS stream second from which video is shown
   */
  playFragments(mimeType, startS) {
    this.#reset(startS);
    const source = this.source = new MediaSourceClass();
    if (this.objectUrl) URL.revokeObjectURL(this.objectUrl);
    this.video.src = this.objectUrl = URL.createObjectURL(source);
    source.addEventListener("sourceopen", () => {
      if (source !== this.source) return;
      source.setLiveSeekableRange(0, 1e6); // allows the seek to the start before the first frame is there
      this.buffer = source.addSourceBuffer(mimeType);
      this.buffer.addEventListener("updateend", () => this.#appendNext());
      this.#appendNext();
    }, { once: true });
    this.play();
  }

  /**
   * Starts a plain video.
   * @param {string} url
   * @param {number} startS stream second at which the video's own clock is 0
   */
  playUrl(url, startS) {
    this.#reset(startS);
    this.clockOffsetS = startS;
    this.video.src = url;
    this.play();
  }

  /**
   * Queues the initialization segment or a fragment.
   * @param {ArrayBuffer} data
   */
  append(data) {
    const view = new DataView(data);
    // moof begins with mfhd, which holds the sequence
    if (data.byteLength > 24 && view.getUint32(4) === MOOF) this.lastSequence = view.getUint32(20);
    this.queue.push(data);
    this.#appendNext();
  }

  /** Stream second that is shown, or will be shown first. */
  get position() {
    return this.started ? this.clockOffsetS + this.video.currentTime : this.startS;
  }

  /** True while a plain video is set. */
  get isPlain() {
    return !this.source && Boolean(this.video.getAttribute("src"));
  }

  /**
   * Speech starts at a stream second. A long idle part before it is skipped; a short one costs less than a seek.
   * @param {number} atS
   */
  speechStarts(atS) {
    this.speaking = true;
    this.speechStartS = atS;
    if (this.started && this.source && atS - this.position > 0.6 && atS < this.position + 5) {
      this.#seek(Math.max(this.position, Math.min(atS - 0.02, this.#bufferEnd)));
    }
  }

  /** No speech follows the fragments received so far. */
  speechEnds() {
    this.speaking = false;
    this.speechEndS = this.#bufferEnd;
    this.speechStartS = Infinity;
  }

  /** Plays; without permission for sound muted, without any permission waits for `unmute`. */
  async play() {
    try {
      await this.video.play();
      this.playRefused = false;
    } catch (error) {
      if (error.name !== "NotAllowedError") return;
      if (!this.video.muted) {
        this.video.muted = true;
        this.handlers.onBlocked("sound");
        this.play();
        return;
      }
      this.playRefused = true;
      this.handlers.onBlocked("start");
    }
  }

  /** Plays with sound; to be called from a user gesture. */
  unmute() {
    this.playRefused = false;
    this.video.muted = false;
    this.play();
    this.handlers.onBlocked("");
  }

  /** @param {number} startS */
  #reset(startS) {
    this.queue = [];
    this.source = this.buffer = null;
    this.lastSequence = 0;
    this.startS = startS;
    this.clockOffsetS = 0;
    this.started = this.startSought = this.initAppended = false;
    this.hasPlayed = this.connectionLost = this.speaking = false;
    this.speechEndS = 0;
    this.speechStartS = Infinity;
    this.recentLeads = [];
    this.marginS = MIN_MARGIN_S;
    this.video.classList.remove("early");
    this.lastMoveMs = performance.now();
  }

  /** Seeks before the first frame is decoded, so that no frame from before the start is shown. */
  #seekToStart() {
    if (this.started) return;
    this.started = true;
    if (this.source && this.startS > 0) {
      this.video.classList.add("early");
      this.#seek(this.startS);
    } else this.startSought = true;
    this.#appendNext();
  }

  #appendNext() {
    const { buffer, video } = this;
    if (!buffer || buffer.updating || !this.queue.length || this.source.readyState !== "open") return;
    if (this.initAppended && !this.startSought) return;
    if (buffer.buffered.length && video.currentTime - buffer.buffered.start(0) > MAX_BEHIND_S) {
      buffer.remove(0, video.currentTime - KEEP_BEHIND_S);
      return;
    }
    try {
      buffer.appendBuffer(this.queue[0]);
      this.queue.shift();
      this.initAppended = true;
    } catch (error) {
      if (error.name === "QuotaExceededError" && video.currentTime > 5) buffer.remove(0, video.currentTime - 3);
      else this.handlers.onDecodeError();
    }
  }

  #handleFailure() {
    if (!this.isPlain || this.connectionLost) {
      if (this.source && this.video.error) this.handlers.onDecodeError();
      return;
    }
    this.connectionLost = true;
    setTimeout(() => {
      if (this.connectionLost) this.handlers.onPlainLost();
    }, this.started ? 0 : 2000);
  }

  get #bufferEnd() {
    const { buffered } = this.video;
    return buffered.length ? buffered.end(buffered.length - 1) : 0;
  }

  /** Skips holes, and while nobody speaks catches up with the live edge: by a seek if far, else by a higher rate. */
  #followLiveEdge() {
    const { video } = this, ranges = video.buffered;
    if (video.currentTime !== this.lastTimeS || video.paused) {
      this.lastTimeS = video.currentTime;
      this.lastMoveMs = performance.now();
    }
    if (this.isPlain && performance.now() - this.lastMoveMs > STALL_MS) this.#handleFailure();
    if (!this.source || !ranges.length || !this.started || video.seeking) return;
    const now = video.currentTime, lead = this.#bufferEnd - now;
    for (let i = 0; i < ranges.length; i++) {
      if (ranges.start(i) > now + 0.05 && (i === 0 || ranges.end(i - 1) <= now + 0.1)) {
        this.#seek(ranges.start(i));
        return;
      }
    }
    this.recentLeads = [...this.recentLeads.slice(-9), lead];
    const idle = this.speaking ? now < this.speechStartS - 0.1 : now > this.speechEndS;
    const spare = Math.min(...this.recentLeads) - this.marginS;
    if (idle && spare > 1.2) this.#seek(this.#bufferEnd - this.marginS);
    video.playbackRate = idle && spare > 0.05 ? 1 + Math.min(1, 2 * spare) : 1;
    if (video.paused && !document.hidden && !this.playRefused) this.play();
  }

  #seek(timeS) {
    this.recentLeads = [];
    this.video.currentTime = timeS;
  }

  #raiseMargin() {
    if (this.hasPlayed && this.source && !this.video.seeking) {
      this.marginS = Math.min(MAX_MARGIN_S, this.marginS + MARGIN_STEP_S);
    }
  }
}
