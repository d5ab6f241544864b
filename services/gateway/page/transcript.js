/** Transcript of the conversation: the user's texts between the clips, and the answer that is being written. */

import { tabStorage } from "./storage.js";
import { byId } from "./ui.js";

const MAX_STORED_TEXTS = 200;
/** The list scrolls with new rows while the user is this close to its end, in pixels. */
const FOLLOW_PX = 40;

export class Transcript {
  constructor() {
    this.log = byId("log");
    this.list = byId("rows");
    /**
     * Texts of the user with the number of clips before each and the number of the conversation.
     * @type {{text: string, after: number, number: number}[]}
     */
    this.userTexts = [];
    /** Answer whose clip is not ready. */
    this.pendingAnswer = "";
    /** True from a question to the start of the answer. */
    this.thinking = false;
    this.atEnd = true;
    this.log.onscroll = () => {
      this.atEnd = this.log.scrollTop + this.log.clientHeight > this.log.scrollHeight - FOLLOW_PX;
    };
    new ResizeObserver(() => this.#scrollToEnd()).observe(this.log);
  }

  /**
   * Loads the user's texts after a reload.
   * @param {boolean} sameSession false for another session than before
   */
  restore(sameSession) {
    this.userTexts = sameSession ? JSON.parse(tabStorage.get("said") || "[]") : [];
  }

  /**
   * @param {string} text
   * @param {any} conversation current state on the server
   */
  addUserText(text, conversation) {
    this.userTexts.push({ text, after: conversation.clips.length, number: conversation.number });
    tabStorage.set("said", JSON.stringify(this.userTexts.slice(-MAX_STORED_TEXTS)));
    this.render(conversation);
  }

  /** Forgets the user's texts. */
  clear() {
    this.userTexts = [];
    tabStorage.set("said", "[]");
  }

  /**
   * Updates only rows that differ, so that screen readers announce only those.
   * @param {any} conversation
   */
  render(conversation) {
    const { list } = this, rows = this.#rows(conversation);
    rows.forEach((row, n) => {
      const present = list.children[n];
      if (!present) list.append(row);
      else if (present.outerHTML !== row.outerHTML) present.replaceWith(row);
    });
    while (list.children.length > rows.length) list.lastChild.remove();
    this.#scrollToEnd();
  }

  /** @param {any} conversation */
  #rows({ clips, number }) {
    const rows = [], texts = this.userTexts.filter((text) => text.number === number);
    /** @param {number} count */
    const addTextsBefore = (count) => {
      while (texts.length && texts[0].after < count) rows.push(createRow(texts.shift().text, "me"));
    };
    clips.forEach((clip, n) => {
      addTextsBefore(n + 1);
      rows.push(createRow(clip.text || "(your voice)", "", clip));
    });
    addTextsBefore(Infinity);
    if (this.pendingAnswer) rows.push(createRow(this.pendingAnswer, "soft"));
    else if (this.thinking) rows.push(createRow("…", "thinking"));
    return rows;
  }

  #scrollToEnd() {
    if (this.atEnd) this.log.scrollTop = this.log.scrollHeight;
  }
}

/**
 * @param {string} text
 * @param {"" | "me" | "soft" | "thinking"} kind class of the row
 * @param {any} [clip] adds a button that plays the recording from the clip on
 */
function createRow(text, kind, clip) {
  const row = document.createElement("li"), speaker = document.createElement("span");
  row.className = kind;
  speaker.className = "unseen";
  speaker.textContent = kind === "me" ? "You: " : "Answer: ";
  row.append(speaker);
  if (clip) {
    const button = document.createElement("button"), seconds = Math.floor(clip.start_s);
    button.type = "button";
    button.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    button.setAttribute("aria-label", `Play from ${button.textContent}`);
    button.dataset.at = clip.start_s;
    row.append(button);
  }
  row.append(text);
  return row;
}
