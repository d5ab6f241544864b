/** Runs in the talk page before its own scripts and records input, events, fragments and frames; times in ms since 1970. */
(() => {
  const STALL_MS = 100; // two and a half frames
  const MOOF = 0x6d6f6f66;
  const STORAGE_KEY = "watch.loads";
  const page = /** @type {any} */ (window);
  const earlierLoads = JSON.parse(sessionStorage.getItem(STORAGE_KEY) || "[]");
  const epochMs = (stamp = performance.now()) => performance.timeOrigin + stamp;
  const load = {
    opened: epochMs(0),
    /** Enter was pressed in the text field. */
    entered: [],
    /** [time of the event, stream second at which the speech starts] */
    started: [],
    /** [display time, stream second of the frame] */
    frames: [],
    /** [sequence, bytes, hash] */
    fragments: [],
    /** Number of initialization segments. */
    heads: 0,
    /** [start, duration in ms] */
    stalls: [],
    /** Number of `waiting` events. */
    waiting: 0,
  };
  page.loads = () => [...earlierLoads, load];
  addEventListener("pagehide", () => sessionStorage.setItem(STORAGE_KEY, JSON.stringify(page.loads())));

  const sockets = [];
  page.hangUp = () => sockets.splice(0).forEach((socket) => socket.close());
  page.WebSocket = class extends WebSocket {
    /** @param {ConstructorParameters<typeof WebSocket>} args */
    constructor(...args) {
      super(...args);
      sockets.push(this);
      this.addEventListener("message", ({ data }) => {
        if (typeof data === "string") recordEvent(JSON.parse(data));
        else recordMedia(data);
      });
    }
  };

  function recordEvent(event) {
    if (event.event === "started") load.started.push([epochMs(), event.stream_start_s]);
  }

  /** @param {ArrayBuffer} data */
  function recordMedia(data) {
    const view = new DataView(data);
    if (view.getUint32(4) !== MOOF) {
      load.heads++;
      return;
    }
    let hash = 0x811c9dc5; // FNV-1a
    for (const byte of new Uint8Array(data)) hash = Math.imul(hash ^ byte, 0x01000193);
    load.fragments.push([view.getUint32(20), data.byteLength, hash >>> 0]);
  }

  document.addEventListener("keydown", (event) => {
    const { id } = /** @type {HTMLElement} */ (event.target);
    if (event.key === "Enter" && id === "words") load.entered.push(epochMs(event.timeStamp));
  }, true);

  document.addEventListener("DOMContentLoaded", () => {
    const video = /** @type {HTMLVideoElement} */ (document.querySelector("#live"));
    let hasPlayed = false, lastTimeS = 0, lastMoveMs = 0;
    // the clock of a plain player is 0 at the position in its URL
    const clockOffsetS = () => Number(new URL(video.currentSrc).searchParams.get("position"));
    /** @type {VideoFrameRequestCallback} */
    const recordFrame = (_, frame) => {
      video.requestVideoFrameCallback(recordFrame);
      if (getComputedStyle(video).visibility !== "visible") return;
      load.frames.push([epochMs(frame.expectedDisplayTime), clockOffsetS() + frame.mediaTime]);
    };
    video.requestVideoFrameCallback(recordFrame);
    video.addEventListener("playing", () => {
      hasPlayed = true;
    });
    video.addEventListener("emptied", () => {
      hasPlayed = false;
    });
    video.addEventListener("waiting", () => {
      if (hasPlayed) load.waiting++;
    });
    setInterval(() => {
      const now = epochMs(), moved = video.currentTime !== lastTimeS || video.paused || !hasPlayed;
      if (moved && hasPlayed && lastMoveMs && now - lastMoveMs > STALL_MS) {
        load.stalls.push([lastMoveMs, now - lastMoveMs]);
      }
      if (moved) lastMoveMs = now;
      lastTimeS = video.currentTime;
    }, 20);
  });
})();
