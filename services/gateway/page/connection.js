/** WebSocket of the live stream: opens, times out, and connects again after a loss with growing delays. */

const OPEN_TIMEOUT_MS = 25_000;
const MAX_RETRY_S = 8;

/**
 * @typedef {object} ConnectionHandlers
 * @property {() => string} url address of the next attempt
 * @property {() => void} onConnecting
 * @property {(event: any) => void} onEvent
 * @property {(data: ArrayBuffer) => void} onMedia
 * @property {(failures: number) => void} onLost number of attempts and losses since the last success
 */

export class LiveConnection {
  /** @param {ConnectionHandlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.failures = 0;
    this.openTimer = 0;
    this.retryTimer = 0;
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  /** Connects now; replaces a connection that is open or waits for a retry. */
  connect() {
    clearTimeout(this.retryTimer);
    this.#drop();
    this.handlers.onConnecting();
    const socket = this.socket = new WebSocket(this.handlers.url());
    socket.binaryType = "arraybuffer";
    this.openTimer = setTimeout(() => socket.close(), OPEN_TIMEOUT_MS);
    socket.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) this.handlers.onMedia(data);
      else this.handlers.onEvent(JSON.parse(data));
    };
    socket.onclose = () => {
      if (socket === this.socket) this.#retry();
    };
  }

  /** To be called at the `opened` event: the attempt has succeeded. */
  confirmOpened() {
    clearTimeout(this.openTimer);
    this.failures = 0;
  }

  /**
   * @param {object | ArrayBuffer} message an object is sent as JSON
   * @returns {boolean} false without a connection
   */
  send(message) {
    if (!this.isOpen) return false;
    this.socket.send(message instanceof ArrayBuffer ? message : JSON.stringify(message));
    return true;
  }

  #retry() {
    clearTimeout(this.openTimer);
    const delayS = this.failures ? Math.min(MAX_RETRY_S, 0.2 * 2 ** this.failures) : 0;
    this.failures++;
    this.handlers.onLost(this.failures);
    this.retryTimer = setTimeout(() => this.connect(), delayS * 1000);
  }

  #drop() {
    clearTimeout(this.openTimer);
    const { socket } = this;
    this.socket = null;
    if (!socket) return;
    socket.onmessage = socket.onclose = null;
    socket.close();
  }
}
