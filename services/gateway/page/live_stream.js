/** The live stream of a session: a connection and a player that resume the same stream after a loss or a reload. */

import { api } from "./api.js";
import { LiveConnection } from "./connection.js";
import { LivePlayer } from "./player.js";
import { tabStorage } from "./storage.js";

/** Any H.264 and AAC: tells whether the browser has MediaSource before the stream's own type is known. */
const PROBE_TYPE = 'video/mp4; codecs="avc1.64001f, mp4a.40.2"';

/**
 * @typedef {object} StreamHandlers
 * @property {() => void} onConnecting
 * @property {() => void} onPlaying
 * @property {(event: any) => void} onEvent
 * @property {(failures: number) => void} onLost see `LiveConnection`
 * @property {(what: "" | "sound" | "start") => void} onBlocked see `LivePlayer`
 */

export class LiveStream {
  /**
   * @param {HTMLVideoElement} video
   * @param {StreamHandlers} handlers
   */
  constructor(video, handlers) {
    this.sessionId = "";
    /** Stream that the player has; empty before the first. */
    this.streamId = "";
    this.player = new LivePlayer(video, {
      onPlaying: handlers.onPlaying,
      onBlocked: handlers.onBlocked,
      onDecodeError: () => {
        this.forget();
        this.connection.connect();
      },
      onPlainLost: () => {
        if (this.connection.isOpen) this.connection.connect();
      },
    });
    this.connection = new LiveConnection({
      url: () => this.#url(),
      onConnecting: handlers.onConnecting,
      onEvent: handlers.onEvent,
      onMedia: (data) => this.player.append(data),
      onLost: handlers.onLost,
    });
  }

  /** @param {string} sessionId */
  connect(sessionId) {
    this.sessionId = sessionId;
    this.connection.connect();
  }

  /** Forgets the stream: the next connection starts at the newest frame. */
  forget() {
    this.#setStreamId("");
  }

  /**
   * Handles the `opened` event: continues to play, or starts the player anew.
   * @param {any} event
   * @returns {boolean} true if playback continues
   */
  handleOpened(event) {
    this.connection.confirmOpened();
    const { player } = this, same = event.stream === this.streamId;
    this.#setStreamId(event.stream);
    if (same && event.resumed) return true;
    if (LivePlayer.canPlayFragments(event.mime_type)) {
      player.playFragments(event.mime_type, event.begin_s);
      return false;
    }
    if (same && player.isPlain && !player.connectionLost) return true;
    const query = `stream=${event.stream}&position=${event.begin_s}`;
    player.playUrl(api.withToken(`/v1/sessions/${this.sessionId}/live.mp4?${query}`), event.begin_s);
    return false;
  }

  /** Stores the position for a reload, and reports the position to the server during speech. */
  savePosition() {
    const { player } = this, { position } = player;
    if (!this.streamId || tabStorage.get("stream") !== this.streamId) return;
    tabStorage.set("position", position.toFixed(3));
    if (player.started && player.speaking) this.connection.send({ type: "playback", position });
  }

  /** Address of the live stream; a known stream is resumed. */
  #url() {
    const query = new URLSearchParams(), stored = tabStorage.get("stream");
    if (stored) {
      query.set("stream", stored);
      if (this.streamId === stored) {
        query.set("position", this.player.position.toFixed(3));
        if (this.player.lastSequence) query.set("after", String(this.player.lastSequence));
      } else if (tabStorage.get("position")) query.set("position", tabStorage.get("position"));
    }
    if (!LivePlayer.canPlayFragments(PROBE_TYPE)) query.set("media", "0");
    return location.origin.replace(/^http/, "ws") + api.withToken(`/v1/sessions/${this.sessionId}/live?${query}`);
  }

  /** @param {string} streamId */
  #setStreamId(streamId) {
    this.streamId = streamId;
    tabStorage.set("stream", streamId);
  }
}
