/** The recorded conversation, shown in place of the live video. */

import { byId } from "./ui.js";

export class Recording {
  constructor() {
    this.video = byId("record");
    this.backButton = byId("back");
    /** True while the recording is shown. */
    this.shown = false;
  }

  /**
   * @param {string} url
   * @param {number} atS second of the conversation
   */
  play(url, atS) {
    const { video } = this;
    this.shown = true;
    if (video.getAttribute("src") !== url) video.src = url;
    video.currentTime = atS;
    video.hidden = this.backButton.hidden = false;
    video.play().catch(() => {}); // the controls of the element show the state
  }

  hide() {
    this.shown = false;
    this.video.pause();
    this.video.hidden = this.backButton.hidden = true;
  }
}
