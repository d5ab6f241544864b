/** The conversation with an avatar: sends what the user says, and shows the events of the live stream. */

import { api, Problem } from "./api.js";
import { LiveStream } from "./live_stream.js";
import { Recording } from "./recording.js";
import { tabStorage } from "./storage.js";
import { Transcript } from "./transcript.js";
import {
  byId,
  hideNotice,
  showFrameRate,
  showNotice,
  showPlayButtons,
  showProblem,
  showSection,
  showStatus,
} from "./ui.js";

export class Conversation {
  /** @param {() => void} onSessionGone called when the server no longer has the session */
  constructor(onSessionGone) {
    this.onSessionGone = onSessionGone;
    /** Session as last read from the server. */
    this.session = null;
    this.fps = 0;
    /** True while a notice about the connection is shown. */
    this.lossShown = false;
    this.transcript = new Transcript();
    this.recording = new Recording();
    this.stream = new LiveStream(byId("live"), {
      onConnecting: () => showStatus("Connecting …"),
      onPlaying: () => {
        if (!this.recording.shown) showStatus("Live", "on");
      },
      onEvent: (event) => this.#handleEvent(event),
      onLost: (failures) => this.#handleLoss(failures),
      onBlocked: (what) => showPlayButtons(what, byId("live").muted && !this.recording.shown),
    });
  }

  /**
   * Shows a session and connects.
   * @param {any} session
   * @param {{isNew?: boolean}} [options] for a session that is not new, stream and transcript resume
   */
  open(session, { isNew = false } = {}) {
    if (isNew) {
      this.stream.forget();
      this.transcript.clear();
    }
    this.session = session;
    this.transcript.restore(tabStorage.get("session") === session.session_id);
    tabStorage.set("session", session.session_id);
    showSection("talk");
    this.#render();
    this.stream.connect(session.session_id);
    byId("words").focus({ preventScroll: true });
  }

  /** Asks a question; returns false when the text was not sent. */
  ask(text) {
    if (!this.#send({ type: "ask", text })) return false;
    this.transcript.thinking = true;
    this.#setBusy(true);
    this.transcript.addUserText(text, this.session.conversation);
    this.showLive();
    return true;
  }

  /**
   * Sends recorded speech, which the avatar speaks back.
   * @param {Int16Array<ArrayBuffer>} samples at 16 kHz
   * @param {number} chunkLength samples per message
   */
  sendAudio(samples, chunkLength) {
    for (let offset = 0; offset < samples.length; offset += chunkLength) {
      if (!this.#send(samples.slice(offset, offset + chunkLength).buffer)) return;
    }
    this.#send({ type: "end" });
    this.showLive();
  }

  /** Stops the current answer and speech, if any. */
  interrupt() {
    if (byId("stop").disabled) return;
    const { player } = this.stream;
    this.#send({ type: "interrupt", ...(player.started ? { position: player.position } : {}) });
    player.speechEnds();
    this.#setIdle();
    this.#render();
  }

  /** Starts a new conversation in the same session. */
  async reset() {
    this.stream.player.speechEnds();
    try {
      await api.post(`/v1/sessions/${this.session.session_id}/reset`);
      this.transcript.clear();
      if (this.recording.shown) this.showLive();
      await this.#refresh();
    } catch (error) {
      showProblem(error, "Try again", () => this.reset());
    }
  }

  /** Plays the recorded conversation from second `atS`, in place of the live video. */
  playRecording(atS) {
    this.recording.play(api.withToken(this.session.conversation.url), atS);
    showStatus("Recorded");
    byId("live").muted = true;
    byId("sound").hidden = true;
  }

  /** Shows the live video, with sound. */
  showLive() {
    if (!this.recording.shown) {
      if (byId("live").muted) this.stream.player.unmute();
      return;
    }
    this.recording.hide();
    if (this.stream.connection.isOpen) showStatus("Live", "on");
    this.stream.player.unmute();
  }

  /** @param {any} event */
  #handleEvent(event) {
    const { transcript, stream: { player } } = this;
    switch (event.event) {
      case "opened":
        this.#handleOpened(event);
        break;
      case "accepted":
        this.#setBusy(true);
        break;
      case "answer":
        transcript.thinking = false;
        transcript.pendingAnswer += event.text;
        this.#setBusy(true);
        this.#render();
        break;
      case "answered": // ends a question without an answer; others end with the speech
        if (!transcript.thinking) break;
        this.#setIdle();
        this.#render();
        break;
      case "started":
        hideNotice();
        this.#setBusy(true);
        player.speechStarts(event.stream_start_s);
        break;
      case "finished":
        player.speechEnds();
        this.#setBusy(false);
        break;
      case "clip_ready":
        transcript.pendingAnswer = "";
        break;
      case "conversation_updated":
        this.#refresh();
        break;
      case "interrupted":
        transcript.pendingAnswer = "";
        this.#render();
        break;
      case "frame_rate_changed":
        showFrameRate(event.fps, this.fps);
        break;
      case "error":
        this.#handleProblem(new Problem(event));
        break;
    }
  }

  #handleOpened(event) {
    this.transcript.pendingAnswer = ""; // the server repeats the events of the current utterance
    if (this.lossShown) hideNotice();
    this.lossShown = false;
    this.fps = event.fps;
    if (event.stream !== this.stream.streamId) byId("badge").hidden = true;
    if (this.stream.handleOpened(event)) showStatus("Live", "on");
    this.stream.savePosition();
    this.#refresh();
  }

  /** @param {Problem} problem */
  #handleProblem(problem) {
    this.transcript.pendingAnswer = "";
    this.#setIdle();
    this.#render();
    if (problem.reason === "INTERRUPTED") return; // a reset or an ended stream: the page connects again
    if (problem.reason === "NOT_FOUND") {
      tabStorage.set("session", "");
      this.onSessionGone();
    }
    showProblem(problem);
  }

  #handleLoss(failures) {
    this.#setIdle();
    if (failures < 2) return; // the first attempt after a loss follows at once
    showStatus("Not connected", "off");
    if (this.lossShown) return;
    this.lossShown = true;
    this.#showConnectionNotice("The connection is lost.", "What was said is kept; this page tries again by itself.");
  }

  /** @param {object | ArrayBuffer} message */
  #send(message) {
    const sent = this.stream.connection.send(message);
    if (!sent) this.#showConnectionNotice("Not sent: there is no connection.", "Your text is still in the field.");
    return sent;
  }

  #showConnectionNotice(title, text) {
    showNotice(title, text, "Try now", () => this.stream.connection.connect());
  }

  /** @param {boolean} busy true while there is something to stop */
  #setBusy(busy) {
    byId("stop").disabled = !busy;
  }

  #setIdle() {
    this.transcript.thinking = false;
    this.#setBusy(false);
  }

  async #refresh() {
    try {
      this.session = await api.get(`/v1/sessions/${this.session.session_id}`);
      this.#render();
    } catch (error) {
      if (error.reason === "UNREACHABLE") { // without a connection, the next `opened` event refreshes
        if (!this.stream.connection.isOpen) return;
        this.lossShown = true;
      }
      showProblem(error, "Try again", () => this.#refresh());
    }
  }

  #render() {
    const { conversation } = this.session, download = byId("download");
    this.transcript.render(conversation);
    download.setAttribute("aria-disabled", String(!conversation.url));
    if (conversation.url) download.href = api.withToken(`${conversation.url}&download=true`);
    else download.removeAttribute("href");
  }
}
