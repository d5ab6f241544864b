/** Page elements and messages shared by the other modules. */

import { Problem } from "./api.js";

/**
 * @param {string} id
 * @returns {any} the element
 */
export function byId(id) {
  return document.getElementById(id);
}

/**
 * Shows a state in the header.
 * @param {string} text
 * @param {"" | "on" | "off"} kind colour of the dot: neutral, working, not working
 */
export function showStatus(text, kind = "") {
  byId("state").textContent = text;
  byId("state").className = kind;
}

/**
 * Shows a notice with a button.
 * @param {string} title
 * @param {string} text
 * @param {string} action label of the button, which also hides the notice
 * @param {(() => void) | null} callback called by the button
 */
export function showNotice(title, text = "", action = "Close", callback = null) {
  byId("notice-title").textContent = title;
  byId("notice-text").textContent = text;
  byId("notice-act").textContent = action;
  byId("notice-act").onclick = () => {
    hideNotice();
    callback?.();
  };
  byId("notice").hidden = false;
}

export function hideNotice() {
  byId("notice").hidden = true;
}

/**
 * Shows a problem as a notice, or asks for the key. Throws errors of other types again.
 * @param {unknown} error
 * @param {string} [action]
 * @param {() => void} [callback]
 */
export function showProblem(error, action, callback) {
  if (!(error instanceof Problem)) throw error;
  if (error.reason === "UNAUTHENTICATED") {
    showSection("unlock");
    return;
  }
  const text = error.message.replace(/ \(.*\)/s, ""); // details in brackets are for the log
  showNotice(`${text[0].toUpperCase()}${text.slice(1)}.`, error.hint && `${error.hint}.`, action, callback);
}

/**
 * Shows one section of the page.
 * @param {"unlock" | "setup" | "talk"} name
 */
export function showSection(name) {
  for (const section of ["unlock", "setup", "talk"]) byId(section).hidden = section !== name;
  byId("menu").hidden = name !== "talk";
  if (name === "unlock") {
    showStatus("Locked", "off");
    byId("key").focus();
  }
}

/**
 * Shows the button that the browser's autoplay rules make necessary.
 * @param {"" | "sound" | "start"} blocked
 * @param {boolean} muted true if the live video is shown without sound
 */
export function showPlayButtons(blocked, muted) {
  byId("start").hidden = blocked !== "start";
  byId("sound").hidden = !muted || blocked === "start";
  if (blocked === "start") showStatus("Waiting for you");
}

/**
 * Shows a badge on the video while the server renders fewer frames than usual.
 * @param {number} fps
 * @param {number} usualFps
 */
export function showFrameRate(fps, usualFps) {
  const badge = byId("badge");
  badge.hidden = fps >= usualFps;
  badge.textContent = `${Math.round(fps)} fps`;
  badge.title = "The server is busy";
}
