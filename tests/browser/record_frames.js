/**
 * Runs in the talk page before its own scripts.
 *
 * Records the stream times (ms) of the frames that are shown, by load of the page, and where the first seek led. Records
 * as faults: holes in the buffer, and a MediaSource player that stands although the next frames are there. When a plain
 * video starts is the browser's decision.
 */
(() => {
  const STALL_MS = 2000;
  const page = /** @type {any} */ (window);
  const earlierLoads = JSON.parse(sessionStorage.getItem("test.frames") || "[]");
  const frames = page.frameTimes = [];
  page.storedPosition = 1000 * Number(sessionStorage.getItem("warmtalk.position") || 0);
  page.loads = () => [...earlierLoads, frames];

  /** @param {string} text */
  const addFault = (text) => {
    sessionStorage.setItem("test.faults", `${sessionStorage.getItem("test.faults") || ""}${text}; `);
  };

  addEventListener("DOMContentLoaded", () => {
    const video = /** @type {HTMLVideoElement | null} */ (document.querySelector("#live"));
    if (!video) return;
    // the clock of a plain player is 0 at the position in its URL
    const clockOffsetS = () => Number(new URL(video.currentSrc).searchParams.get("position") || 0);
    /** @type {VideoFrameRequestCallback} */
    const recordFrame = (_, frame) => {
      const visible = getComputedStyle(video).visibility === "visible";
      if (visible) frames.push(Math.round(1000 * (clockOffsetS() + frame.mediaTime)));
      video.requestVideoFrameCallback(recordFrame);
    };
    video.requestVideoFrameCallback(recordFrame);
    video.addEventListener("seeking", () => {
      page.firstSeek = 1000 * video.currentTime;
    }, { once: true });
    let lastTimeS = 0, lastMoveMs = 0;
    setInterval(() => {
      const { buffered, currentTime, paused, seeking } = video, ranges = buffered.length;
      if (ranges > 1) addFault(`a hole at ${buffered.end(0)}`);
      const ready = ranges && video.src.startsWith("blob:") && buffered.end(ranges - 1) - currentTime > 0.5;
      if (currentTime !== lastTimeS || paused || seeking || !ready) lastMoveMs = performance.now();
      else if (performance.now() - lastMoveMs > STALL_MS) addFault(`stands at ${currentTime}, has ${buffered.end(0)}`);
      lastTimeS = currentTime;
    }, 100);
  });
  addEventListener("pagehide", () => {
    const video = /** @type {HTMLVideoElement | null} */ (document.querySelector("#live"));
    sessionStorage.setItem("test.frames", JSON.stringify(page.loads()));
    sessionStorage.setItem("test.left", String(1000 * video?.currentTime));
  });
})();
