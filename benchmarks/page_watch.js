// Put into the talk page before its own script: notes when what was pressed, received and shown. Times are ms since 1970.
(() => {
  const STANDS_MS = 100;  // two and a half pictures
  const at = (stamp = performance.now()) => performance.timeOrigin + stamp;
  const before = JSON.parse(sessionStorage["watch.loads"] || "[]");
  const watched = {
    opened: at(0),
    entered: [],  // Enter was pressed in the text field
    started: [],  // [told, stream second at which the speech begins]
    pictures: [],  // [shown, its stream second]
    fragments: [],  // [sequence, bytes, hash]
    heads: 0,
    stalls: [],  // [began, ms]
    waiting: 0,  // events of that name
  };
  window.loads = () => [...before, watched];
  addEventListener("pagehide", () => { sessionStorage["watch.loads"] = JSON.stringify(window.loads()); });

  const sockets = [];

  window.WebSocket = class extends WebSocket {
    constructor(...how) {
      super(...how);
      sockets.push(this);
      this.addEventListener("message", ({ data }) => (typeof data === "string" ? told(JSON.parse(data)) : came(data)));
    }
  };
  window.hangUp = () => sockets.splice(0).forEach((one) => one.close());

  function told(event) {
    if (event.event === "started") watched.started.push([at(), event.stream_start_s]);
  }
  function came(data) {
    const view = new DataView(data);
    if (view.getUint32(4) !== 0x6d6f6f66) { watched.heads++; return; }  // moof
    let hash = 0x811c9dc5;  // FNV-1a
    for (const byte of new Uint8Array(data)) hash = Math.imul(hash ^ byte, 0x01000193);
    watched.fragments.push([view.getUint32(20), data.byteLength, hash >>> 0]);
  }

  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.id === "words") watched.entered.push(at(event.timeStamp));
  }, true);

  document.addEventListener("DOMContentLoaded", () => {
    const video = document.querySelector("#live");
    let plays = false, place = 0, since = 0;
    const base = () => Number(new URL(video.currentSrc).searchParams.get("position"));  // of a plain player
    const look = (_, frame) => {
      video.requestVideoFrameCallback(look);
      if (getComputedStyle(video).visibility === "visible") watched.pictures.push([at(frame.expectedDisplayTime), base() + frame.mediaTime]);
    };
    video.requestVideoFrameCallback(look);
    video.addEventListener("playing", () => { plays = true; });
    video.addEventListener("emptied", () => { plays = false; });
    video.addEventListener("waiting", () => { watched.waiting += plays; });
    setInterval(() => {
      const now = at(), moved = video.currentTime !== place || video.paused || !plays;
      if (moved && plays && since && now - since > STANDS_MS) watched.stalls.push([since, now - since]);
      if (moved) since = now;
      place = video.currentTime;
    }, 20);
  });
})();
