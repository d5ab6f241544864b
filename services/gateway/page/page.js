// The talk page. One file: the same file is the audio worklet that hears the microphone (see the end).

const inWorklet = typeof registerProcessor === "function";
const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const HEARD_HZ = 16000;

// ---- the server -------------------------------------------------------------------------------------------------

class Problem extends Error {
  constructor(body) {
    super(body.detail || "Something went wrong");
    this.reason = body.reason || "INTERNAL";
    this.hint = body.hint || "";
  }
}
const unreachable = () => new Problem({ reason: "UNREACHABLE", detail: "The server does not answer", hint: "Check that it is running" });

const server = {
  token: "", key: "", config: {},

  async call(method, path, body, { key = false, type = "application/json", timeout = 20000 } = {}) {
    const headers = {};
    if (key && this.key) headers["X-Internal-API-Key"] = this.key;
    else if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (body !== undefined) headers["Content-Type"] = type;
    const raw = body === undefined || body instanceof Blob ? body : JSON.stringify(body);
    let answer;
    try {
      answer = await fetch(path, { method, headers, body: raw, signal: AbortSignal.timeout(timeout) });
    } catch { throw unreachable(); }
    if (!answer.ok) throw new Problem(await answer.json().catch(() => ({})));
    try {
      return answer.status === 204 ? null : await answer.json();
    } catch { throw unreachable(); }
  },
  get(path) { return this.call("GET", path); },
  post(path, body = {}, more) { return this.call("POST", path, body, more); },
  url(path) { return this.token ? `${path}${path.includes("?") ? "&" : "?"}token=${encodeURIComponent(this.token)}` : path; },

  async unlock(session) {  // a token for this session, or for a new one
    const given = await this.post("/v1/token", session ? { session_id: session } : {}, { key: true });
    this.keep(given);
    return given.session_id;
  },
  keep(given) {
    this.token = given.token;
    store.token = given.token;
    clearTimeout(this.renewal);
    this.renewal = setTimeout(() => this.post("/v1/token").then((next) => this.keep(next)).catch(() => {}), given.expires_in * 800);
  },
};

// What a reload needs; gone with the tab.
const store = new Proxy({}, {
  get: (_, name) => sessionStorage.getItem(`warmtalk.${name}`) || "",
  set: (_, name, value) => { sessionStorage.setItem(`warmtalk.${name}`, value); return true; },
});

// ---- what the page says ------------------------------------------------------------------------------------------

function state(text, kind = "") { $("state").textContent = text; $("state").className = kind; }

function notice(title, text = "", act = "Close", work = null) {
  $("notice-title").textContent = title;
  $("notice-text").textContent = text;
  $("notice-act").textContent = act;
  $("notice-act").onclick = () => { calm(); work?.(); };
  $("notice").hidden = false;
}
function calm() { $("notice").hidden = true; }

function complain(error, act, work) {
  if (!(error instanceof Problem)) throw error;
  if (error.reason === "UNAUTHENTICATED") { show("unlock"); return; }
  const text = error.message.replace(/ \(.*\)/s, "");  // what is in brackets is for the log
  notice(`${text[0].toUpperCase()}${text.slice(1)}.`, error.hint && `${error.hint}.`, act, work);
}

function show(name) {
  for (const one of ["unlock", "setup", "talk"]) $(one).hidden = one !== name;
  $("menu").hidden = name !== "talk";
  if (name === "unlock") { state("Locked", "off"); $("key").focus(); }
}

// ---- the live video ----------------------------------------------------------------------------------------------

const SILENT_MS = 5000;  // a plain video that stands still for so long has lost its connection
const LEAST_S = 0.2, MOST_S = 1;  // kept between the player and the end of what came, by how steadily it comes
const Media = globalThis.MediaSource ?? globalThis.ManagedMediaSource;  // the second: iPhones

class Player {  // fragments into a <video> by MediaSource, close to the live edge while nobody speaks; or a plain <video>
  constructor(video) {
    this.video = video;
    this.reset(0);
    video.disableRemotePlayback = true;  // ManagedMediaSource wants it
    video.addEventListener("playing", () => { this.plays = true; this.blocked(""); if (!talk.recorded) state("Live", "on"); });
    video.addEventListener("loadedmetadata", () => this.metadata());
    video.addEventListener("seeking", () => { this.sought = true; this.pump(); });
    video.addEventListener("seeked", () => video.classList.remove("early"));
    for (const end of ["error", "ended"]) video.addEventListener(end, () => this.broke());
    video.addEventListener("waiting", () => this.stands());
    setInterval(() => this.follow(), 100);
  }
  static can(mime) { return Boolean(Media?.isTypeSupported(mime)); }

  reset(at) {  // nothing is there yet; what comes is shown from `at` of the stream on
    this.queue = [];
    this.source = this.buffer = null;
    this.have = 0;  // sequence of the last fragment that came
    this.began = this.sought = this.headed = this.lost = this.speaking = this.plays = false;
    this.quietFrom = 0;
    this.loudFrom = Infinity;
    this.lows = [];
    this.margin = LEAST_S;
    this.from = at;
    this.base = 0;
    this.video.classList.remove("early");
    this.moved = performance.now();
  }
  begin(mime, at) {
    this.reset(at);
    const source = this.source = new Media();
    if (this.address) URL.revokeObjectURL(this.address);
    this.video.src = this.address = URL.createObjectURL(source);
    source.addEventListener("sourceopen", () => {
      if (source !== this.source) return;
      source.setLiveSeekableRange(0, 1e6);  // so that it can be sought before the first picture is there
      this.buffer = source.addSourceBuffer(mime);
      this.buffer.addEventListener("updateend", () => this.pump());
      this.pump();
    }, { once: true });
    this.play();
  }
  plain(address, at) {  // its clock is 0 at `at`
    this.reset(at);
    this.base = at;
    this.video.src = address;
    this.play();
  }
  metadata() {  // the seek comes before the first picture, so that none from before it is seen again
    if (this.began) return;
    this.began = true;
    if (this.source && this.from > 0) {
      this.video.classList.add("early");
      this.jump(this.from);
    } else this.sought = true;
    this.pump();
  }
  add(data) {
    if (data.byteLength > 24 && new DataView(data).getUint32(4) === 0x6d6f6f66) this.have = new DataView(data).getUint32(20);  // moof, its mfhd
    this.queue.push(data);
    this.pump();
  }

  pump() {
    const { buffer, video } = this;
    if (!buffer || buffer.updating || !this.queue.length || this.source.readyState !== "open") return;
    if (this.headed && !this.sought) return;
    if (buffer.buffered.length && video.currentTime - buffer.buffered.start(0) > 40) {
      buffer.remove(0, video.currentTime - 20);
      return;
    }
    try {
      buffer.appendBuffer(this.queue[0]);
      this.queue.shift();
      this.headed = true;
    } catch (error) {
      if (error.name === "QuotaExceededError" && video.currentTime > 5) buffer.remove(0, video.currentTime - 3);
      else talk.again();
    }
  }
  get end() { const b = this.video.buffered; return b.length ? b.end(b.length - 1) : 0; }
  get position() { return this.began ? this.base + this.video.currentTime : this.from; }
  get plainly() { return !this.source && Boolean(this.video.getAttribute("src")); }
  broke() {  // a plain video: its connection is gone, or silent
    if (!this.plainly || this.lost) { if (this.source && this.video.error) talk.again(); return; }
    this.lost = true;
    setTimeout(() => { if (this.lost && talk.socket?.readyState === WebSocket.OPEN) talk.connect(); }, this.began ? 0 : 2000);
  }

  follow() {
    const { video } = this, ranges = video.buffered;
    if (video.currentTime !== this.seen || video.paused) { this.seen = video.currentTime; this.moved = performance.now(); }
    if (this.plainly && performance.now() - this.moved > SILENT_MS) this.broke();
    if (!this.source || !ranges.length || !this.began || video.seeking) return;
    const now = video.currentTime, ahead = this.end - now;
    for (let i = 0; i < ranges.length; i++) if (ranges.start(i) > now + 0.05 && (i === 0 || ranges.end(i - 1) <= now + 0.1)) { this.jump(ranges.start(i)); return; }
    this.lows = [...this.lows.slice(-9), ahead];
    const idle = this.speaking ? now < this.loudFrom - 0.1 : now > this.quietFrom, spare = Math.min(...this.lows) - this.margin;
    if (idle && spare > 1.2) this.jump(this.end - this.margin);
    video.playbackRate = idle && spare > 0.05 ? 1 + Math.min(1, 2 * spare) : 1;
    if (video.paused && !document.hidden && !this.refused) this.play();
  }
  jump(to) { this.lows = []; this.video.currentTime = to; }
  stands() {  // nothing is left to play: keep more from now on
    if (this.plays && this.source && !this.video.seeking) this.margin = Math.min(MOST_S, this.margin + 0.1);
  }
  starts(at) {  // speech begins there: many idle pictures before it need not be seen, a few cost less than a seek
    this.speaking = true;
    this.loudFrom = at;
    if (this.began && this.source && at - this.position > 0.6 && at < this.position + 5) this.jump(Math.max(this.position, Math.min(at - 0.02, this.end)));
  }
  ends() { this.speaking = false; this.quietFrom = this.end; this.loudFrom = Infinity; }

  async play() {
    try {
      await this.video.play();
      this.refused = false;
    } catch (error) {
      if (error.name !== "NotAllowedError") return;
      if (!this.video.muted) { this.video.muted = true; this.blocked("sound"); this.play(); return; }
      this.refused = true;
      this.blocked("start");
    }
  }
  blocked(what) {
    $("start").hidden = what !== "start";
    $("sound").hidden = !(this.video.muted && what !== "start" && !talk.recorded);
    if (what === "start") state("Waiting for you", "");
  }
  loud() { this.refused = false; this.video.muted = false; this.play(); this.blocked(""); }
}

// ---- one conversation --------------------------------------------------------------------------------------------

const talk = {
  session: null, socket: null, stream: "", tries: 0, pending: "", said: [], recorded: false, timer: 0, atEnd: true, warned: false, thinking: false,

  async open(session) {
    this.session = session;
    this.said = store.session === session.session_id ? JSON.parse(store.said || "[]") : [];
    store.session = session.session_id;
    show("talk");
    this.draw();
    this.connect();
    $("words").focus({ preventScroll: true });
  },

  connect() {
    clearTimeout(this.timer);
    this.drop();
    state("Connecting …");
    const query = new URLSearchParams();
    if (store.stream) {
      query.set("stream", store.stream);
      if (this.stream === store.stream) {
        query.set("position", this.player.position.toFixed(3));
        if (this.player.have) query.set("after", this.player.have);
      } else if (store.position) query.set("position", store.position);
    }
    if (!Player.can('video/mp4; codecs="avc1.64001f, mp4a.40.2"')) query.set("media", "0");
    const place = server.url(`/v1/sessions/${this.session.session_id}/live?${query}`);
    const socket = this.socket = new WebSocket(location.origin.replace(/^http/, "ws") + place);
    socket.binaryType = "arraybuffer";
    const patience = setTimeout(() => socket.close(), 25000);
    socket.onmessage = (message) => {
      if (message.data instanceof ArrayBuffer) this.player.add(message.data);
      else this.take(JSON.parse(message.data), patience);
    };
    socket.onclose = () => { clearTimeout(patience); if (socket === this.socket) this.lost(); };
  },
  drop() {
    const socket = this.socket;
    this.socket = null;
    if (socket) { socket.onmessage = socket.onclose = null; socket.close(); }
  },
  again() { this.stream = store.stream = ""; this.connect(); },

  lost() {
    const wait = this.tries ? Math.min(8, 0.2 * 2 ** this.tries) : 0;
    this.thinking = false;
    this.busy(false);
    if (this.tries++) state("Not connected", "off");
    if (this.tries > 1 && !this.warned) {
      this.warned = true;
      notice("The connection is lost.", "What was said is kept; this page tries again by itself.", "Try now", () => this.connect());
    }
    this.timer = setTimeout(() => this.connect(), wait * 1000);
  },

  take(event, patience) {
    switch (event.event) {
      case "opened":
        clearTimeout(patience);
        this.tries = 0;
        this.pending = "";  // what is being said is told again
        if (this.warned) calm();
        this.warned = false;
        this.opened(event);
        break;
      case "accepted": this.busy(true); break;
      case "answered": if (this.thinking) { this.thinking = false; this.busy(false); this.draw(); } break;  // with nothing
      case "started": calm(); this.busy(true); this.player.starts(event.stream_start_s); break;
      case "answer": this.thinking = false; this.pending += event.text; this.busy(true); this.draw(); break;
      case "finished": this.player.ends(); this.busy(false); break;
      case "clip_ready": this.pending = ""; break;
      case "conversation_updated": this.refresh(); break;
      case "interrupted": this.pending = ""; this.draw(); break;
      case "frame_rate_changed":
        $("badge").hidden = event.fps >= this.fps;
        $("badge").textContent = `${Math.round(event.fps)} fps`;
        $("badge").title = "The server is busy";
        break;
      case "error": this.failed(new Problem(event)); break;
    }
  },
  opened(event) {
    const { player } = this, same = event.stream === this.stream, at = event.begin_s;
    this.stream = store.stream = event.stream;
    this.fps = event.fps;
    if (!same) $("badge").hidden = true;
    if (same && event.resumed) state("Live", "on");
    else if (Player.can(event.mime_type)) player.begin(event.mime_type, at);
    else if (same && player.plainly && !player.lost) state("Live", "on");
    else player.plain(server.url(`/v1/sessions/${this.session.session_id}/live.mp4?stream=${event.stream}&position=${at}`), at);
    keep();
    this.refresh();
  },
  failed(error) {
    this.pending = "";
    this.thinking = false;
    this.busy(false);
    this.draw();
    if (error.reason === "INTERRUPTED") return;  // a reset or an ended stream: the page connects again
    if (error.reason === "NOT_FOUND") { store.session = ""; choose().catch(complain); }
    complain(error);
  },

  send(message) {
    if (this.socket?.readyState !== WebSocket.OPEN) {
      notice("Not sent: there is no connection.", "Your text is still in the field.", "Try now", () => this.connect());
      return false;
    }
    this.socket.send(message instanceof ArrayBuffer ? message : JSON.stringify(message));
    return true;
  },
  ask(text) {
    if (!this.send({ type: "ask", text })) return false;
    this.thinking = true;
    this.busy(true);
    this.note(text);
    this.toLive();
    return true;
  },
  note(text) {
    this.said.push({ text, after: this.session.conversation.clips.length, number: this.session.conversation.number });
    store.said = JSON.stringify(this.said.slice(-200));
    this.draw();
  },
  stop() {
    if ($("stop").disabled) return;
    this.send({ type: "interrupt", ...(this.player.began ? { position: this.player.position } : {}) });
    this.player.ends();
    this.thinking = false;
    this.busy(false);
    this.draw();
  },
  busy(yes) { $("stop").disabled = !yes; },

  async refresh() {
    try {
      this.session = await server.get(`/v1/sessions/${this.session.session_id}`);
      this.draw();
    } catch (error) {
      if (error.reason === "UNREACHABLE") {  // the socket finds out too, and asks again when it is back
        if (this.socket?.readyState !== WebSocket.OPEN) return;
        this.warned = true;
      }
      complain(error, "Try again", () => this.refresh());
    }
  },
  draw() {
    const { clips, number, url } = this.session.conversation, log = $("log"), list = $("rows"), rows = [];
    const mine = this.said.filter((one) => one.number === number);
    const before = (n) => { while (mine.length && mine[0].after < n) rows.push(row(mine.shift().text, "me")); };
    clips.forEach((clip, n) => { before(n + 1); rows.push(row(clip.text || "(your voice)", "", clip)); });
    before(Infinity);
    if (this.pending) rows.push(row(this.pending, "soft"));
    else if (this.thinking) rows.push(row("…", "thinking"));
    rows.forEach((one, n) => { if (list.children[n]?.outerHTML !== one.outerHTML) list.children[n] ? list.children[n].replaceWith(one) : list.append(one); });
    while (list.children.length > rows.length) list.lastChild.remove();
    if (this.atEnd) log.scrollTop = log.scrollHeight;
    $("download").setAttribute("aria-disabled", String(!url));
    if (url) $("download").href = server.url(`${url}&download=true`); else $("download").removeAttribute("href");
  },

  seek(at) {
    const record = $("record"), from = server.url(this.session.conversation.url);
    this.recorded = true;
    if (record.getAttribute("src") !== from) record.src = from;
    record.currentTime = at;
    record.hidden = $("back").hidden = false;
    state("Recorded");
    $("live").muted = true;
    $("sound").hidden = true;
    record.play().catch(() => {});
  },
  toLive() {
    if (!this.recorded) { if ($("live").muted) this.player.loud(); return; }
    this.recorded = false;
    $("record").pause();
    $("record").hidden = $("back").hidden = true;
    if (this.socket?.readyState === WebSocket.OPEN) state("Live", "on");
    this.player.loud();
  },
  async reset() {
    this.player.ends();
    try {
      await server.post(`/v1/sessions/${this.session.session_id}/reset`);
      this.said = [];
      store.said = "[]";
      if (this.recorded) this.toLive();
      await this.refresh();
    } catch (error) { complain(error, "Try again", () => this.reset()); }
  },
};

function row(text, kind, clip) {
  const item = document.createElement("li"), who = document.createElement("span");
  item.className = kind;
  who.className = "unseen";
  who.textContent = kind === "me" ? "You: " : "Answer: ";
  item.append(who);
  if (clip) {
    const at = document.createElement("button"), s = Math.floor(clip.start_s);
    at.type = "button";
    at.textContent = `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
    at.setAttribute("aria-label", `Play from ${at.textContent}`);
    at.dataset.at = clip.start_s;
    item.append(at);
  }
  item.append(text);
  return item;
}

// ---- faces -------------------------------------------------------------------------------------------------------

async function choose({ back = false } = {}) {
  const { avatars } = await server.get("/v1/avatars");
  show("setup");
  state("Choose a face");
  $("setup-back").hidden = !back;
  const usable = avatars.filter((one) => one.state === "ready");
  $("setup-title").textContent = usable.length ? "Who should speak?" : "No face yet";
  $("setup-text").textContent = usable.length ? "Choose a face, or bring your own." : "Upload a photo or a short video of one person, and it will speak.";
  $("faces").replaceChildren(...avatars.map(face));
  return avatars;
}
function face(one) {
  const item = document.createElement("li"), button = document.createElement("button");
  const letter = Object.assign(document.createElement("span"), { className: "letter", textContent: one.avatar_id[0], ariaHidden: "true" });
  const about = { ready: one.summary || `${one.width} × ${one.height}`, creating: "is being made …", failed: `failed: ${one.error}` }[one.state];
  button.type = "button";
  button.disabled = one.state !== "ready";
  button.append(letter, one.avatar_id, Object.assign(document.createElement("small"), { textContent: about }));
  button.onclick = () => begin(one.avatar_id).catch((error) => complain(error, "Try again", () => begin(one.avatar_id)));
  item.append(button);
  return item;
}
async function begin(avatar) {
  state("Starting …");
  let id = "";
  if (server.config.key) id = server.key ? await server.unlock("") : (linked || await server.unlock(""));
  const session = await server.post("/v1/sessions", { avatar_id: avatar, session_id: id });
  calm();
  talk.stream = store.stream = "";
  store.said = "[]";
  await talk.open(session);
}
let linked = "", upload = null;

async function make(file) {
  const most = server.config.max_upload_mb;
  if (file.size > most * 1048576) { notice("This file is too large.", `Send at most ${most} MB; a few seconds are enough.`); return; }
  calm();
  $("making").hidden = false;
  $("drop").hidden = true;
  try {
    const names = new Set((await server.get("/v1/avatars")).avatars.map((one) => one.avatar_id));
    const made = await follow(await send(file, free(file.name, names)));
    await begin(made);
  } catch (error) {
    if (error.name !== "AbortError") complain(error, "Choose another file", () => $("file").click());
    await choose({ back: Boolean(talk.session) }).catch(() => {});
  } finally {
    upload = null;
    $("making").hidden = true;
    $("drop").hidden = false;
  }
}
function free(name, taken) {
  const stem = name.replace(/\.[^.]*$/, "").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 50) || "face";
  let id = stem;
  for (let n = 2; taken.has(id); n++) id = `${stem}-${n}`;
  return id;
}
function progress(text, part) {
  $("making-text").textContent = text;
  if (part) $("making-bar").value = part; else $("making-bar").removeAttribute("value");
}
function send(file, id) {
  progress("Uploading", 0);
  return new Promise((done, fail) => {
    const request = upload = new XMLHttpRequest();
    request.open("POST", `/v1/avatars?avatar_id=${id}&file_name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    if (server.token) request.setRequestHeader("Authorization", `Bearer ${server.token}`);
    request.upload.onprogress = (event) => progress(`Uploading: ${Math.round(100 * event.loaded / event.total)} %`, event.loaded / event.total);
    request.onabort = () => fail(new DOMException("stopped", "AbortError"));
    request.onerror = () => fail(unreachable());
    request.onload = () => {
      let body = {};
      try { body = JSON.parse(request.responseText); } catch { /* a proxy's page */ }
      if (request.status === 202) done(body.job_id); else fail(new Problem(body));
    };
    request.send(file);
  });
}
async function follow(job) {
  const request = upload = new XMLHttpRequest();  // only to be aborted: the build is asked after below
  let stopped = false;
  request.abort = () => { stopped = true; };
  for (;;) {
    const at = await server.get(`/v1/status/${job}`);
    if (at.status === "completed") return job;
    if (at.status === "failed") throw new Problem({ detail: at.error || "The face could not be made", reason: "BAD_MEDIA" });
    if (stopped) throw new DOMException("stopped", "AbortError");
    progress(`Making the face: ${at.stage || "queued"}`, at.progress);
    await sleep(300);
  }
}

// ---- the microphone ----------------------------------------------------------------------------------------------

const ear = {
  parts: null, stream: null, context: null, wanted: false,

  async start() {
    if (this.wanted) return;
    this.wanted = true;
    $("hold").setAttribute("aria-pressed", "true");
    $("hold").textContent = "Listening …";
    talk.stop();
    try {
      if (!navigator.mediaDevices) throw new DOMException("", "SecurityError");
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true } });
      this.context = new AudioContext();
      await this.context.audioWorklet.addModule("page.js");
      const node = new AudioWorkletNode(this.context, "ear", { numberOfOutputs: 0 });
      this.parts = [];
      node.port.onmessage = (message) => this.parts?.push(message.data);
      this.context.createMediaStreamSource(this.stream).connect(node);
      if (!this.wanted) this.close();
    } catch (error) {
      this.wanted = false;
      this.close();
      const why = { NotAllowedError: ["The microphone is not allowed.", "Allow it in the browser’s address bar, or type."], NotFoundError: ["There is no microphone.", "Plug one in, or type."], SecurityError: ["The microphone needs a safe connection.", "Open this page by https or on localhost, or type."] }[error.name];
      notice(...(why || ["The microphone cannot be used.", `${error.message || error.name}. You can type.`]));
    }
  },
  async stop() {
    if (!this.wanted) return;
    this.wanted = false;
    const parts = this.parts, rate = this.context?.sampleRate;
    this.close();
    if (!parts?.length) return;
    const sound = lower(parts, rate);
    if (sound.length < HEARD_HZ / 5) { notice("That was too short.", "Hold the button for as long as you speak."); return; }
    await (server.config.transcriptions ? this.write(sound) : this.say(sound));
  },
  close() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.context?.close().catch(() => {});
    this.stream = this.context = this.parts = null;
    $("hold").setAttribute("aria-pressed", "false");
    $("hold").textContent = "Hold to talk";
  },
  async write(sound) {
    state("Understanding …");
    try {
      const { text } = await server.post("/v1/transcriptions", wav(sound), { type: "audio/wav", timeout: 60000 });
      state("Live", "on");
      if (text) talk.ask(text); else notice("Nothing was understood.", "Try again a little louder.");
    } catch (error) { state("Live", "on"); complain(error); }
  },
  say(sound) {  // nobody to understand it: the face says it back in the speaker's own voice
    for (let at = 0; at < sound.length; at += 32000) if (!talk.send(sound.slice(at, at + 32000).buffer)) return;
    talk.send({ type: "end" });
    talk.toLive();
  },
};
function lower(parts, rate) {  // to 16 kHz 16-bit: each sample the mean of those it stands for
  const all = new Float32Array(parts.reduce((sum, one) => sum + one.length, 0));
  parts.reduce((at, one) => (all.set(one, at), at + one.length), 0);
  const step = rate / HEARD_HZ, out = new Int16Array(Math.floor(all.length / step));
  for (let n = 0; n < out.length; n++) {
    const from = Math.floor(n * step), to = Math.max(from + 1, Math.floor((n + 1) * step));
    let sum = 0;
    for (let k = from; k < to; k++) sum += all[k];
    out[n] = Math.max(-1, Math.min(1, sum / (to - from))) * 32767;
  }
  return out;
}
function wav(sound) {
  const head = new DataView(new ArrayBuffer(44)), size = sound.length * 2;
  const word = (at, text) => [...text].forEach((c, n) => head.setUint8(at + n, c.charCodeAt(0)));
  word(0, "RIFF"); head.setUint32(4, 36 + size, true); word(8, "WAVEfmt "); head.setUint32(16, 16, true);
  head.setUint16(20, 1, true); head.setUint16(22, 1, true); head.setUint32(24, HEARD_HZ, true);
  head.setUint32(28, HEARD_HZ * 2, true); head.setUint16(32, 2, true); head.setUint16(34, 16, true);
  word(36, "data"); head.setUint32(40, size, true);
  return new Blob([head.buffer, sound.buffer], { type: "audio/wav" });
}

// ---- hands -------------------------------------------------------------------------------------------------------

function wire() {
  talk.player = new Player($("live"));
  $("composer").onsubmit = (event) => {
    event.preventDefault();
    const text = $("words").value.trim();
    if (text && talk.ask(text)) { $("words").value = ""; grow(); }
  };
  $("words").onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); $("composer").requestSubmit(); }
  };
  const grow = () => { const box = $("words"); box.style.height = "auto"; box.style.height = `${box.scrollHeight + 2}px`; };
  $("words").oninput = grow;
  $("stop").onclick = () => talk.stop();
  $("log").onclick = (event) => { const at = event.target.dataset?.at; if (at) talk.seek(Number(at)); };
  $("log").onscroll = ({ target }) => { talk.atEnd = target.scrollTop + target.clientHeight > target.scrollHeight - 40; };
  new ResizeObserver(([{ target }]) => { if (talk.atEnd) target.scrollTop = target.scrollHeight; }).observe($("log"));
  $("back").onclick = () => talk.toLive();
  $("start").onclick = $("sound").onclick = () => talk.player.loud();
  $("reset").onclick = () => $("confirm").showModal();
  $("confirm").onclose = () => { if ($("confirm").returnValue === "yes") talk.reset(); $("confirm").returnValue = ""; };
  $("change").onclick = () => {
    if (server.config.key && !server.key) notice("This link is for one face.", "Ask for another link, or open the page with the key.");
    else choose({ back: true }).catch((error) => complain(error));
  };
  $("setup-back").onclick = () => { show("talk"); state("Live", "on"); };
  $("file").onchange = () => { const [file] = $("file").files; $("file").value = ""; if (file) make(file); };
  $("making-stop").onclick = () => upload?.abort();
  $("unlock").querySelector("form").onsubmit = (event) => { event.preventDefault(); server.key = $("key").value.trim(); unlock(); };
  document.onkeydown = (event) => { if (event.key === "Escape" && !$("confirm").open) talk.stop(); };
  window.addEventListener("pagehide", keep);
  setInterval(keep, 500);
  holding($("hold"));
  dropping($("setup"));
}
function keep() {
  const { player, socket, stream } = talk, { position } = player;
  if (!stream || store.stream !== stream) return;
  store.position = position.toFixed(3);
  if (player.began && player.speaking && socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "playback", position }));
}

function holding(button) {  // held by pointer or key; a screen reader's click starts and stops
  let held = false;
  const down = (event) => { held = true; event.preventDefault(); ear.start(); };
  const up = () => { if (held) ear.stop(); setTimeout(() => { held = false; }); };
  button.onpointerdown = (event) => { button.focus(); down(event); };
  window.addEventListener("pointerup", up);
  window.addEventListener("pointercancel", up);
  button.onkeydown = (event) => { if ([" ", "Enter"].includes(event.key)) { event.preventDefault(); if (!event.repeat) down(event); } };
  button.onkeyup = (event) => { if ([" ", "Enter"].includes(event.key)) { event.preventDefault(); up(); } };
  button.onblur = up;
  button.onclick = () => { if (held) return; if (ear.wanted) ear.stop(); else ear.start(); };
  button.oncontextmenu = (event) => event.preventDefault();
}
function dropping(place) {
  const over = (yes) => (event) => { event.preventDefault(); $("drop").classList.toggle("over", yes); };
  place.ondragover = over(true);
  place.ondragleave = over(false);
  place.ondrop = (event) => { over(false)(event); const [file] = event.dataTransfer.files; if (file && !$("drop").hidden) make(file); };
}

async function unlock() {
  try {
    await server.unlock(linked);
    $("key").value = "";
    calm();
    await start();
  } catch (error) {
    if (error.reason === "UNAUTHENTICATED") notice("That is not the key.", "Check it and try again.");
    else complain(error);
  }
}

async function start() {
  state("Connecting …");
  try {
    server.config = await server.get("/v1/config");
    if (server.config.key && !server.token) { show("unlock"); return; }
    const known = linked || store.session;
    if (known) {
      try { await talk.open(await server.get(`/v1/sessions/${known}`)); return; }
      catch (error) { if (!["NOT_FOUND", "FORBIDDEN", "INVALID_INPUT"].includes(error.reason)) throw error; }
    }
    const ready = (await choose()).filter((one) => one.state === "ready");
    const only = ready.find((one) => one.avatar_id === server.config.avatar_id) || (ready.length === 1 && ready[0]);
    if (only) await begin(only.avatar_id);
  } catch (error) {
    state("Not connected", "off");
    if (error.reason === "UNREACHABLE") error.hint = "Is it running? This page tries again by itself";
    complain(error, "Try again", start);
    if (error.reason === "UNREACHABLE") setTimeout(() => { if (!$("notice").hidden && !talk.session) { calm(); start(); } }, 4000);
  }
}

if (inWorklet) {
  registerProcessor("ear", class extends AudioWorkletProcessor {
    process([input]) { if (input[0]?.length) this.port.postMessage(input[0].slice()); return true; }
  });
} else {
  const hash = new URLSearchParams(location.hash.slice(1));
  linked = new URLSearchParams(location.search).get("session") || "";
  server.token = hash.get("token") || store.token;
  if (hash.get("token")) { store.token = server.token; history.replaceState(null, "", location.pathname + location.search); }
  if (server.token) server.post("/v1/token").then((given) => server.keep(given)).catch(() => {});
  wire();
  start();
}
